package server

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func TestHandler(t *testing.T) {
	web := httptest.NewServer(Handler("server02"))
	defer web.Close()
	body := strings.Repeat("x", 100_000)
	tests := []struct {
		name, method, path, send string
		code                     int
		want                     string // beginning of the answer
	}{
		{"root tells the server and the client", "GET", "/", "", 200, "server02 saw 127.0.0.1:"},
		{"any other path too", "GET", "/index.html", "", 200, "server02 saw 127.0.0.1:"},
		{"sum tells count and hash", "POST", "/sum", body, 200, fmt.Sprintf("100000 %x\n", sha256.Sum256([]byte(body)))},
		{"slow answers in the end", "GET", "/slow?ms=1", "", 200, "server02 saw"},
		{"slow refuses a negative time", "GET", "/slow?ms=-1", "", 400, "ms must"},
		{"bytes refuses no number", "GET", "/bytes?n=x", "", 400, "n must"},
		{"bytes may be none", "GET", "/bytes?n=0", "", 200, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			req, err := http.NewRequest(tt.method, web.URL+tt.path, strings.NewReader(tt.send))
			if err != nil {
				t.Fatal(err)
			}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			got, _ := io.ReadAll(resp.Body)
			if resp.StatusCode != tt.code || !strings.HasPrefix(string(got), tt.want) {
				t.Errorf("%d %q, want %d %q", resp.StatusCode, got, tt.code, tt.want)
			}
			if b := resp.Header.Get(BackendHeader); b != "server02" {
				t.Errorf("%s = %q", BackendHeader, b)
			}
		})
	}
}

func TestBytesAreThePattern(t *testing.T) {
	web := httptest.NewServer(Handler("s"))
	defer web.Close()
	const n = 1_000_003
	resp, err := http.Get(fmt.Sprintf("%s/bytes?n=%d", web.URL, n))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil || len(got) != n {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	if sha256.Sum256(got) != PatternSum(n) {
		t.Error("sum differs from PatternSum")
	}
}

func TestPatternIsOneStream(t *testing.T) {
	long, _ := io.ReadAll(Pattern(1000))
	short, _ := io.ReadAll(Pattern(10))
	if !bytes.Equal(long[:10], short) {
		t.Error("a shorter pattern is not the beginning of a longer one")
	}
}

func TestSumAnswersAfterTheEndOfTheStream(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- serveSum(l, "s1") }()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, _ = c.Write([]byte("hello"))
	_ = c.(*net.TCPConn).CloseWrite()
	got, err := io.ReadAll(c)
	if want := fmt.Sprintf("s1 5 %x\n", sha256.Sum256([]byte("hello"))); err != nil || string(got) != want {
		t.Errorf("%q, %v, want %q", got, err, want)
	}
	l.Close()
	<-done
}

func TestEchoTellsWhoAndWhom(t *testing.T) {
	s, err := listenEcho("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- serveEcho(s, "s1") }()
	c, err := net.Dial("udp", s.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	_, _ = c.Write([]byte("hello"))
	buf := make([]byte, 100)
	n, err := c.Read(buf)
	if want := fmt.Sprintf("s1 %s hello", c.LocalAddr()); err != nil || string(buf[:n]) != want {
		t.Errorf("%q, %v, want %q", buf[:n], err, want)
	}
	s.Close()
	<-done
}
