// Package layering holds the repository to its own rules: who may import whom, what the data path may not touch, that
// everything exported is documented, and the small rules of form.
//
// Contract: it has tests only. They parse the sources of this module (of the modules nested below internal only the
// form is looked at), start no program, use no network and change no file. A rule is a table or a function here;
// whoever wants it otherwise changes it here, and the drawing in docs/design.md with it.
//
// It does not judge what code does; that is what the tests of the packages are for.
package layering
