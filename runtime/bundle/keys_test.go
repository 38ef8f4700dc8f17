package bundle

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"nepcoc/internal/files"
	"nepcoc/internal/testfiles"
)

// Keys of other kinds and in other forms are called what they are, with the command that
// makes the right one; the commands are run.
func TestOtherKeys(t *testing.T) {
	private, public, err := GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	block := func(kind string, der []byte, err error) []byte {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
	}
	r, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	e, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8 := func(key any) []byte {
		der, err := x509.MarshalPKCS8PrivateKey(key)
		return block(privatePEM, der, err)
	}
	pkix := func(key any) []byte {
		der, err := x509.MarshalPKIXPublicKey(key)
		return block(publicPEM, der, err)
	}
	ec, err := x509.MarshalECPrivateKey(e)
	if err != nil {
		t.Fatal(err)
	}
	pb, _ := pem.Decode(private)
	const (
		generate = "nepcoc key new key"
		der      = "openssl pkey -inform DER -in "
	)
	for _, tc := range []struct {
		name            string
		data            []byte
		private, public []string // what the readers say; nil: they take it
	}{
		{"private", private, nil, []string{"a private key", "the public key belongs here", "make that with openssl pkey -in " + filepath.Join(dir, "private") + " -pubout"}},
		{"public", public, []string{"a public key", "the private key belongs here"}, nil},
		{"RSA", pkcs8(r), []string{"an RSA key", "Ed25519", generate}, []string{"a private key"}},
		{"RSA public", pkix(&r.PublicKey), []string{"a public key"}, []string{"an RSA key", "Ed25519", generate}},
		{"RSA PKCS1", block("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(r), nil), []string{"an RSA key", generate}, []string{"an RSA key"}},
		{"ECDSA", pkcs8(e), []string{"an ECDSA key", generate}, []string{"a private key"}},
		{"ECDSA public", pkix(&e.PublicKey), []string{"a public key"}, []string{"an ECDSA key"}},
		{"EC SEC1", block("EC PRIVATE KEY", ec, nil), []string{"an ECDSA key", generate}, []string{"an ECDSA key"}},
		{"OpenSSH", block("OPENSSH PRIVATE KEY", []byte("openssh-key-v1\x00"), nil), []string{"an OpenSSH key", generate}, []string{"an OpenSSH key"}},
		{"OpenSSH public", []byte("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA me@host\n"), []string{"an OpenSSH key", generate}, []string{"an OpenSSH key", generate}},
		{"encrypted", block("ENCRYPTED PRIVATE KEY", []byte{0x30}, nil), []string{"encrypted with a pass phrase", "openssl pkey -in " + filepath.Join(dir, "encrypted") + " -out key.pem"}, []string{"encrypted with a pass phrase"}},
		{"certificate", block("CERTIFICATE", []byte{0x30}, nil), []string{"a certificate", generate}, []string{"a certificate", "openssl x509 -in"}},
		{"DER", pb.Bytes, []string{"no PEM file", der}, []string{"no PEM file"}},
		{"damaged", block(privatePEM, []byte{0x30, 1}, nil), []string{"can't be read", generate}, []string{"a private key"}},
		{"text", []byte("secret\n"), []string{"no PEM file", generate}, []string{"no PEM file", generate}},
		{"empty", nil, []string{"empty", generate}, []string{"empty"}},
		{"bundle", []byte(magic + "xxxx"), []string{"no PEM file", "a bundle"}, []string{"a bundle"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			path := filepath.Join(dir, tc.name)
			if err := os.WriteFile(path, tc.data, 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := files.Read(path, ReadPrivateKey)
			says(t, err, path, tc.private)
			_, err = files.Read(path, ReadPublicKey)
			says(t, err, path, tc.public)
		})
	}

	// The ways out; nepcoc's tests walk the one by nepcoc key new. Pairs that openssl makes do as well.
	openssl := testfiles.Tool(t, "openssl")
	run := func(line string) {
		t.Helper()
		cmd := exec.Command(openssl, strings.Fields(line)[1:]...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", line, err, out)
		}
	}
	pair := func() {
		t.Helper()
		key, err := files.Read(filepath.Join(dir, "key.pem"), ReadPrivateKey)
		if err != nil {
			t.Fatal(err)
		}
		pub, err := files.Read(filepath.Join(dir, "key.pub"), ReadPublicKey)
		if err != nil || !pub.Equal(key.Public()) {
			t.Errorf("%v, %v", pub, err)
		}
	}
	run("openssl genpkey -algorithm ed25519 -out key.pem")
	run("openssl pkey -in key.pem -pubout -out key.pub")
	pair()
	run("openssl pkey -in key.pem -aes256 -passout pass:x -out ENCRYPTED")
	_, err = files.Read(filepath.Join(dir, "ENCRYPTED"), ReadPrivateKey)
	says(t, err, "ENCRYPTED", []string{"encrypted with a pass phrase"})
	run("openssl pkey -passin pass:x -in ENCRYPTED -out key.pem")
	pair()
	run(der + filepath.Join(dir, "DER") + " -out key.pem")
	if key, err := files.Read(filepath.Join(dir, "key.pem"), ReadPrivateKey); err != nil || !bytes.Equal(key.Seed(), seed(t, private)) {
		t.Error(err)
	}
}

func seed(t *testing.T, text []byte) []byte {
	t.Helper()
	key, err := ReadPrivateKey("key", bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return ed25519.PrivateKey(key).Seed()
}

func says(t *testing.T, err error, path string, want []string) {
	t.Helper()
	if want == nil {
		if err != nil {
			t.Error(err)
		}
		return
	}
	for _, w := range append([]string{path}, want...) {
		if err == nil || !strings.Contains(err.Error(), w) {
			t.Errorf("does not say %q: %v", w, err)
		}
	}
}
