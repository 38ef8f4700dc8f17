package bundle

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"strings"

	"nepcoc/internal/filekind"
)

// The PEM block types of key files, as other tools write them.
const (
	privatePEM = "PRIVATE KEY" // PKCS #8
	publicPEM  = "PUBLIC KEY"  // PKIX
)

// generateKey is the command that makes what is read here: key.pem and key.pub.
const generateKey = "nepcoc key new key"

// GenerateKey makes a new key pair, as PEM files.
func GenerateKey() (private, public []byte, err error) {
	pub, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	if private, err = x509.MarshalPKCS8PrivateKey(priv); err != nil {
		return nil, nil, err
	}
	if public, err = x509.MarshalPKIXPublicKey(pub); err != nil {
		return nil, nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: privatePEM, Bytes: private}),
		pem.EncodeToMemory(&pem.Block{Type: publicPEM, Bytes: public}), nil
}

// ReadPrivateKey reads a PEM file with an Ed25519 private key (PKCS #8). name is
// for messages.
func ReadPrivateKey(name string, r io.Reader) (ed25519.PrivateKey, error) {
	return readKey[ed25519.PrivateKey](name, r, privatePEM, x509.ParsePKCS8PrivateKey)
}

// ReadPublicKey reads a PEM file with an Ed25519 public key (PKIX). name is for
// messages.
func ReadPublicKey(name string, r io.Reader) (ed25519.PublicKey, error) {
	return readKey[ed25519.PublicKey](name, r, publicPEM, x509.ParsePKIXPublicKey)
}

// readKey reads a file of one PEM block.
func readKey[K any](name string, r io.Reader, kind string, parse func([]byte) (any, error)) (K, error) {
	var none K
	raw, err := readAligned(name, r, nil, 1<<16)
	if err != nil {
		return none, err
	}
	newKey := "make an Ed25519 key with " + generateKey
	block, _ := pem.Decode(raw)
	if block == nil || block.Type != kind {
		return none, fmt.Errorf("%s: %s", name, otherKey(name, raw, block, kind, newKey))
	}
	key, err := parse(block.Bytes)
	if err != nil {
		return none, fmt.Errorf("%s: the key can't be read: %w: is the file whole? Otherwise %s", name, err, newKey)
	}
	if k, ok := key.(K); ok {
		return k, nil
	}
	what := fmt.Sprintf("a key of type %T", key)
	switch key.(type) {
	case *rsa.PrivateKey, *rsa.PublicKey:
		what = "an RSA key"
	case *ecdsa.PrivateKey, *ecdsa.PublicKey:
		what = "an ECDSA key"
	}
	return none, fmt.Errorf("%s: %s; bundles are signed with Ed25519: %s", name, what, newKey)
}

// otherKeys are PEM blocks that hold no key that is read here: what they hold, and the
// way out, "" for making another key.
var otherKeys = map[string][2]string{
	"RSA PRIVATE KEY":       {"an RSA key; bundles are signed with Ed25519", ""},
	"RSA PUBLIC KEY":        {"an RSA key; bundles are signed with Ed25519", ""},
	"EC PRIVATE KEY":        {"an ECDSA key; bundles are signed with Ed25519", ""},
	"EC PARAMETERS":         {"an ECDSA key; bundles are signed with Ed25519", ""},
	"OPENSSH PRIVATE KEY":   {"an OpenSSH key, whose form is not read here", ""},
	"ENCRYPTED PRIVATE KEY": {"the private key is encrypted with a pass phrase", "decrypt it with openssl pkey -in FILE -out key.pem, and keep that file where only you can read it"},
	"CERTIFICATE":           {"a certificate, which is not read here", "take its public key with openssl x509 -in FILE -noout -pubkey, if that is Ed25519"},
	privatePEM:              {"a private key, and the public key belongs here", "make that with openssl pkey -in FILE -pubout -out FILE.pub"},
	publicPEM:               {"a public key, and the private key belongs here: the file that the public key was made of", ""},
}

// otherKey says what a file without the block that was looked for holds, and the way out.
func otherKey(name string, raw []byte, block *pem.Block, kind, newKey string) error {
	if block != nil {
		what, ok := otherKeys[block.Type]
		if !ok {
			what[0] = fmt.Sprintf("a PEM block %q, not %q", block.Type, kind)
		}
		if what[1] == "" || block.Type == "CERTIFICATE" && kind == privatePEM {
			return fmt.Errorf("%s: %s", what[0], newKey)
		}
		return fmt.Errorf("%s: %s", what[0], strings.ReplaceAll(what[1], "FILE", name))
	}
	switch {
	case bytes.HasPrefix(raw, []byte("ssh-")), bytes.HasPrefix(raw, []byte("ecdsa-sha2-")):
		return fmt.Errorf("an OpenSSH key, whose form is not read here: %s", newKey)
	case len(raw) == 0:
		return errors.New("the file is empty: " + newKey)
	case raw[0] == 0x30 && kind == privatePEM: // an ASN.1 sequence
		return fmt.Errorf("no PEM file; it may be a key in DER: convert it with openssl pkey -inform DER -in %s -out key.pem", name)
	case raw[0] == 0x30:
		return fmt.Errorf("no PEM file; it may be a key in DER: convert it with openssl pkey -pubin -inform DER -in %s -pubout -out key.pub", name)
	}
	head := raw[:min(len(raw), filekind.Head)]
	return fmt.Errorf("no PEM file with a key%s; %s", filekind.Hint(name, head, filekind.Text), newKey)
}
