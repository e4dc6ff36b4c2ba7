package main

import (
	"bytes"
	"debug/elf"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// wanted are the modules that the machine needs besides those that they depend on. The generic CRC comes first: a module
// asks for it by what it does and not by name.
var wanted = strings.Fields("crc32c_generic tun ip_vs ip_vs_rr ip_vs_wrr ip_vs_lc ip_vs_wlc ip_vs_sed ip_vs_nq ip_vs_sh ip_vs_mh")

// kernel is an unpacked kernel package.
type kernel struct {
	release string // as 6.1.0-56-amd64
	image   string // path
	modules []module
}

// module is a kernel module, uncompressed.
type module struct {
	name string
	data []byte
}

// fetch downloads the kernel package that Debian recommends now into a directory and returns its path.
func fetch(dir string) (string, error) {
	for _, tool := range []string{"apt-get", "apt-cache"} {
		if _, err := exec.LookPath(tool); err != nil {
			return "", fmt.Errorf("needs %s for Debian's kernel package, or -package FILE with one that is already there", tool)
		}
	}
	out, err := exec.Command("apt-cache", "depends", "--important", "linux-image-amd64").Output()
	if err != nil {
		return "", fmt.Errorf("apt-cache knows no linux-image-amd64 (apt-get update?): %w", err)
	}
	_, name, ok := strings.Cut(string(out), "Depends: ")
	if !ok {
		return "", fmt.Errorf("linux-image-amd64 depends on no kernel: not Debian? Hand one over with -package FILE")
	}
	name, _, _ = strings.Cut(name, "\n")
	cmd := exec.Command("apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", name)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, os.Stderr, os.Stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("apt-get download %s: %w", name, err)
	}
	found, err := filepath.Glob(filepath.Join(dir, "*.deb"))
	if err != nil || len(found) != 1 {
		return "", fmt.Errorf("apt-get download %s left no package", name)
	}
	return found[0], nil
}

// unpack takes a kernel package apart.
func unpack(pkg, dir string) (*kernel, error) {
	cmd := exec.Command("dpkg-deb", "-x", pkg, dir)
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("dpkg-deb -x %s: %w", pkg, err)
	}
	images, err := filepath.Glob(filepath.Join(dir, "boot", "vmlinuz-*"))
	if err != nil || len(images) != 1 {
		return nil, fmt.Errorf("%s has no kernel in /boot", pkg)
	}
	k := &kernel{image: images[0], release: strings.TrimPrefix(filepath.Base(images[0]), "vmlinuz-")}
	files := map[string]string{}
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if name, _, ok := strings.Cut(filepath.Base(path), ".ko"); ok && err == nil && d.Type().IsRegular() {
			files[strings.ReplaceAll(name, "-", "_")] = path
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	for _, name := range wanted {
		if err := k.add(name, files); err != nil {
			return nil, fmt.Errorf("%s: %w", pkg, err)
		}
	}
	return k, nil
}

// add adds a module behind those that it depends on. One that has no file is part of the kernel.
func (k *kernel) add(name string, files map[string]string) error {
	path := files[name]
	if path == "" || slices.ContainsFunc(k.modules, func(m module) bool { return m.name == name }) {
		return nil
	}
	data, err := read(path)
	if err != nil {
		return err
	}
	depends, err := dependencies(data)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	for _, d := range depends {
		if err := k.add(strings.ReplaceAll(d, "-", "_"), files); err != nil {
			return err
		}
	}
	k.modules = append(k.modules, module{name, data})
	return nil
}

// read reads a module, which newer packages compress.
func read(path string) ([]byte, error) {
	switch filepath.Ext(path) {
	case ".ko":
		return os.ReadFile(path)
	case ".xz":
		return exec.Command("xz", "-dc", path).Output()
	}
	return nil, fmt.Errorf("%s: compressed in a way that is not known here", path)
}

// dependencies returns the names of the modules that must be there before one.
func dependencies(data []byte) ([]string, error) {
	f, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	s := f.Section(".modinfo")
	if s == nil {
		return nil, fmt.Errorf("not a kernel module")
	}
	info, err := s.Data()
	if err != nil {
		return nil, err
	}
	for _, entry := range strings.Split(string(info), "\x00") {
		if list, ok := strings.CutPrefix(entry, "depends="); ok && list != "" {
			return strings.Split(list, ","), nil
		}
	}
	return nil, nil
}
