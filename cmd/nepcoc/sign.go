package main

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"nepcoc/internal/cli"
	"nepcoc/internal/files"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/trust"
)

// statementFlags are what a signer says of a bundle.
type statementFlags struct {
	serial             uint64
	notBefore, expires string
}

func (f *statementFlags) add(fl *pflag.FlagSet) {
	fl.Uint64Var(&f.serial, "serial", 0, "serial of the bundle: services that remember (state) refuse lower ones (default: the time of signing, as YYYYMMDDhhmmss)")
	fl.StringVar(&f.notBefore, "not-before", "", "time before which no service takes the bundle: 2026-12-31, 2026-12-31T08:00:00Z, or from now: 12h, 30d")
	fl.StringVar(&f.expires, "expires", "", "time from which on no service takes the bundle, as --not-before")
}

// statementFlagNames are the flags that say something only under a signature.
var statementFlagNames = []string{"serial", "not-before", "expires"}

// statement is what the flags say at a time.
func (f *statementFlags) statement(cmd *cobra.Command, now time.Time) (s bundle.Statement, err error) {
	s.Serial = f.serial
	if !cmd.Flags().Changed("serial") {
		s.Serial, err = strconv.ParseUint(now.UTC().Format("20060102150405"), 10, 64)
		if err != nil {
			return s, err
		}
	} else if f.serial == 0 {
		return s, cli.UsageError("--serial 0: serials begin with 1")
	}
	for _, v := range []struct {
		flag, text string
		at         *time.Time
	}{{"not-before", f.notBefore, &s.NotBefore}, {"expires", f.expires, &s.Expires}} {
		if v.text == "" {
			continue
		}
		if *v.at, err = parseTime(v.text, now); err != nil {
			return s, cli.UsageError("--%s %q: want a date such as 2026-12-31, a time such as 2026-12-31T08:00:00Z, or hours or days from now such as 12h or 30d", v.flag, v.text)
		}
	}
	if err := s.Validate(); err != nil {
		return s, cli.UsageError("%w", err)
	}
	if !s.Expires.IsZero() && !s.Expires.After(now) {
		return s, cli.UsageError("--expires %s: is over, and no service would take the bundle", f.expires)
	}
	return s, nil
}

// parseTime reads a date (its beginning, UTC), a time, or a duration from now, in whole seconds.
func parseTime(text string, now time.Time) (time.Time, error) {
	if days, ok := strings.CutSuffix(text, "d"); ok {
		n, err := strconv.ParseUint(days, 10, 20)
		return now.UTC().AddDate(0, 0, int(n)).Truncate(time.Second), err
	}
	if d, err := time.ParseDuration(text); err == nil {
		return now.UTC().Add(d).Truncate(time.Second), nil
	}
	for _, form := range []string{time.DateOnly, time.RFC3339} {
		if t, err := time.Parse(form, text); err == nil {
			return t.UTC().Truncate(time.Second), nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is no time", text)
}

// saysText is a statement for people: "serial 7, until 2026-12-31T00:00:00Z".
func saysText(s bundle.Statement) string {
	says := []string{"no serial"}
	if s.Serial > 0 {
		says[0] = fmt.Sprintf("serial %d", s.Serial)
	}
	for _, v := range []struct {
		word string
		at   time.Time
	}{{"from", s.NotBefore}, {"until", s.Expires}} {
		if !v.at.IsZero() {
			says = append(says, v.word+" "+v.at.Format(time.RFC3339))
		}
	}
	return strings.Join(says, ", ")
}

func newSign() *cobra.Command {
	var f statementFlags
	var keyFile, out, reason string
	var from uint64
	cmd := &cobra.Command{
		Use:   "sign BUNDLE",
		Short: "Sign a bundle, with a serial and the time of its use",
		Long: `sign puts a signature over a bundle and what is said of it: a serial, and the time of its use. Services with trusted_keys take no
bundle without one by their keys; services that remember what ran (state) take none with a lower serial than that, so that nobody
brings back an old bundle. The signature that a bundle has is replaced; its program stays as it is.

With --rollback-from the bundle isn't touched: what is written is a signed reason for which a service where the
serial N ran takes this older bundle (allow_rollback: FILE). It ends with the next bundle of a higher serial.
Signing the older bundle again, with a new serial, does the same for all services.
` + exitCodes,
		Example: `  nepcoc sign model.nepco --key signer.pem
  nepcoc sign model.nepco --key signer.pem --serial 8 --expires 90d -o signed.nepco
  nepcoc sign old.nepco --key signer.pem --rollback-from 8 --reason "8 takes DNS for NTP" -o back.note`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			now := time.Now()
			back := cmd.Flags().Changed("rollback-from")
			switch {
			case back && (from == 0 || strings.TrimSpace(reason) == ""):
				return cli.UsageError("--rollback-from wants the serial that ran, at least 1, and --reason")
			case back && out == "":
				return cli.UsageError("--rollback-from writes a file of its own: name it with --output")
			case !back && cmd.Flags().Changed("reason"):
				return cli.UsageError("--reason goes with --rollback-from")
			case out == "" && files.IsStdin(args[0]):
				return cli.UsageError("a bundle from standard input can't be signed in its place: name a file with --output")
			}
			if back {
				if err := meaningless(cmd, "is said of bundles, not with --rollback-from", statementFlagNames...); err != nil {
					return err
				}
			}
			what, err := f.statement(cmd, now)
			if err != nil {
				return err
			}
			if err := notOver(out, keyFile); err != nil {
				return err
			}
			key, err := files.Read(keyFile, bundle.ReadPrivateKey)
			if err != nil {
				return err
			}
			data, err := files.All(args[0], bundle.MaxFileSize)
			if err != nil {
				return err
			}
			b, err := bundle.Decode(data) // never a signature on what can't be run
			if err != nil {
				return fmt.Errorf("%s: %w", files.Show(args[0]), err)
			}
			if back {
				return writeRollback(cmd, b, from, reason, key, args[0], out)
			}
			signed, err := bundle.Sign(data, key, what)
			if err != nil {
				return fmt.Errorf("%s: %w", files.Show(args[0]), err)
			}
			if b, err = bundle.Decode(signed); err != nil {
				return fmt.Errorf("%s: can't be read again once signed, so nothing was written: %w", files.Show(args[0]), err)
			}
			if out == "" {
				out = args[0]
			}
			if err := files.Output(out, signed, cmd.OutOrStdout()); err != nil {
				return err
			}
			_, err = fmt.Fprintf(reportTo(cmd, out), "%s (%.12s): signed by %s, %s\n", files.Show(out), b.Digest, bundle.Fingerprint(b.Signature.Key), saysText(what))
			return err
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&keyFile, "key", "", "Ed25519 private key to sign with (PEM; nepcoc key new makes one; required)")
	fl.StringVarP(&out, cli.OutputFlag, "o", "", "file to write (default: the bundle itself)")
	f.add(fl)
	fl.Uint64Var(&from, "rollback-from", 0, "write a signed reason to go back to this bundle from the serial that ran")
	fl.StringVar(&reason, "reason", "", "with --rollback-from: why")
	cmd.MarkFlagRequired("key")
	return cmd
}

// reportTo is where a command says what it wrote to out: on standard error where that is standard output.
func reportTo(cmd *cobra.Command, out string) io.Writer {
	if files.IsStdout(out) {
		return cmd.ErrOrStderr()
	}
	return cmd.OutOrStdout()
}

func writeRollback(cmd *cobra.Command, b *bundle.Bundle, from uint64, reason string, key ed25519.PrivateKey, name, out string) error {
	r := trust.Rollback{From: from, Digest: b.Digest.String(), Reason: reason}
	if b.Signature != nil {
		r.To = b.Signature.Serial
	}
	switch {
	case b.Signature == nil:
		return fmt.Errorf("%s: is not signed, and no service would take it: sign it first", files.Show(name))
	case r.To >= from:
		return fmt.Errorf("%s: has serial %d, which is not below %d: services take it without a reason", files.Show(name), r.To, from)
	}
	data, err := r.Sign(key)
	if err != nil {
		return err
	}
	if err := notOver(out, name); err != nil {
		return err
	}
	if err := files.Output(out, data, cmd.OutOrStdout()); err != nil {
		return err
	}
	_, err = fmt.Fprintf(reportTo(cmd, out), "%s: back from serial %d to %d (%.12s), signed by %s; name it as allow_rollback\n",
		files.Show(out), from, r.To, r.Digest, bundle.Fingerprint(key.Public().(ed25519.PublicKey)))
	return err
}

func newKey() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "key",
		Short: "Make, show and list the keys that sign bundles",
		Long: `key makes the Ed25519 keys that bundles are signed with, shows what a key file holds, and keeps the list of keys
that services trust. The files are PEM, as openssl's.` + "\n" + exitCodes,
		Example: `  nepcoc key new signer          # signer.pem, to be kept secret, and signer.pub
  nepcoc key show signer.pub`,
	}
	cmd.AddCommand(newKeyNew(), newKeyShow(), newKeyList())
	return cmd
}

func newKeyNew() *cobra.Command {
	return &cobra.Command{
		Use:   "new NAME",
		Short: "Make a key: NAME.pem, to sign with, and NAME.pub, to trust",
		Long: `new makes a pair of keys: NAME.pem signs and is readable by you alone; NAME.pub goes to the services, as one of their
trusted_keys. Files that are there are never replaced.` + "\n" + exitCodes,
		Example: `  nepcoc key new signer
  nepcoc sign model.nepco --key signer.pem`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			private, public, err := bundle.GenerateKey()
			if err != nil {
				return err
			}
			names := []string{args[0] + ".pem", args[0] + ".pub"}
			for _, name := range names {
				if _, err := os.Lstat(name); err == nil {
					return fmt.Errorf("%s: is there already, and keys are never replaced: choose another name", name)
				}
			}
			if err := files.WriteNew(names[0], private, 0o600); err != nil {
				return err
			}
			if err := files.WriteNew(names[1], public, 0o644); err != nil {
				return errors.Join(err, os.Remove(names[0]))
			}
			key, err := files.Read(names[1], bundle.ReadPublicKey)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s signs (keep it secret), %s is trusted: %s\n", names[0], names[1], bundle.Fingerprint(key))
			return err
		},
	}
}

func newKeyShow() *cobra.Command {
	return &cobra.Command{
		Use:     "show FILE...",
		Short:   "Say which key a file holds",
		Long:    `show prints the fingerprint of keys, private or public, as messages and inspect name them.` + "\n" + exitCodes,
		Example: `  nepcoc key show signer.pem signer.pub`,
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			for _, name := range args {
				k, err := anyKey(name)
				if err != nil {
					return err
				}
				kind := "public"
				if k.private != nil {
					kind = "private"
				}
				if _, err := fmt.Fprintf(cmd.OutOrStdout(), "%s: %s key %s\n", files.Show(name), kind, bundle.Fingerprint(k.public)); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

// keyFile is what a key file of either kind holds.
type keyFile struct {
	public     ed25519.PublicKey
	private    ed25519.PrivateKey // nil: notPrivate says why
	notPrivate error
}

// anyKey reads a key file of either kind, once: it may be a pipe.
func anyKey(name string) (k keyFile, err error) {
	data, err := files.All(name, 1<<16)
	if err != nil {
		return k, err
	}
	shown := files.Show(name)
	if k.private, k.notPrivate = bundle.ReadPrivateKey(shown, bytes.NewReader(data)); k.notPrivate == nil {
		k.public = k.private.Public().(ed25519.PublicKey)
		return k, nil
	}
	k.public, err = bundle.ReadPublicKey(shown, bytes.NewReader(data))
	return k, err
}

func newKeyList() *cobra.Command {
	var rootFile, reason string
	var add, revoke, signedBy []string
	var serial uint64
	cmd := &cobra.Command{
		Use:   "list FILE",
		Short: "Show or change a signed list of keys",
		Long: `list shows a list of the keys that may sign bundles, and of those that may no more; with --add or --revoke it changes the list, or begins it,
and signs it with the root key. A service that is told key_list takes bundles by the keys of the list, and the list by its
trusted_keys, which are the roots. So keys come and go without a visit to every card: put the new list in the old one's
place, then systemctl reload nepcod. A list with a lower serial is refused where a higher one was read.

A root is changed by --signed-by: the list that is there is read by the old root's public key, and signed by --root; without --add and --revoke, too. Where
the list itself is lost, --serial begins a new one above the last that cards have read.
` + exitCodes,
		Example: `  nepcoc key list keys.note --root root.pem --add signer.pub
  nepcoc key list keys.note --root root.pem --revoke signer.pub --reason "the laptop was stolen" --add signer2.pub
  nepcoc key list keys.note --root newroot.pem --signed-by root.pub
  nepcoc key list keys.note --root root.pub`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			numbered := cmd.Flags().Changed("serial")
			change := len(add)+len(revoke)+len(signedBy) > 0 || numbered
			if numbered && serial == 0 {
				return cli.UsageError("--serial 0: serials begin with 1")
			}
			if (len(revoke) > 0) != (strings.TrimSpace(reason) != "") {
				return cli.UsageError("--revoke and --reason go together")
			}
			if err := notOver(args[0], slices.Concat([]string{rootFile}, add, revoke, signedBy)...); err != nil {
				return err
			}
			root, err := anyKey(rootFile)
			if err != nil {
				return err
			}
			signers := []ed25519.PublicKey{root.public}
			for _, name := range signedBy {
				k, err := anyKey(name)
				if err != nil {
					return err
				}
				signers = append(signers, k.public)
			}
			l := &trust.KeyList{}
			if _, missing := os.Stat(args[0]); !change || missing == nil || len(signedBy) > 0 {
				if l, err = files.Read(args[0], trust.ReadKeyList(signers...)); err != nil {
					if change && len(signedBy) == 0 && strings.Contains(err.Error(), "none of the trusted keys") {
						err = fmt.Errorf("%w: where another root did, name its public key with --signed-by", err)
					}
					return err
				}
			}
			if change {
				if root.private == nil {
					return root.notPrivate
				}
				before := l.Serial
				if err := changeList(l, add, revoke, reason); err != nil {
					return fmt.Errorf("%s: %w", args[0], err)
				}
				if numbered {
					if serial <= before {
						return cli.UsageError("--serial %d: the list has %d already, and cards take no lower one", serial, before)
					}
					l.Serial = serial
				}
				data, err := l.Sign(root.private)
				if err != nil {
					return err
				}
				if err := files.Write(args[0], data); err != nil {
					return err
				}
			}
			w := cmd.OutOrStdout()
			fmt.Fprintf(w, "%s: serial %d, signed by %s\n", args[0], l.Serial, bundle.Fingerprint(root.public))
			for _, k := range l.Keys {
				fmt.Fprintf(w, "  %s  %s\n", bundle.Fingerprint(k.Public), cli.Name(k.Name))
			}
			for _, k := range l.Revoked {
				fmt.Fprintf(w, "  %s  revoked: %s\n", bundle.Fingerprint(k.Public), cli.Name(k.Reason))
			}
			return nil
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&rootFile, "root", "", "key that signs the list; its public half is enough to show it (required)")
	fl.StringArrayVar(&add, "add", nil, "public key that may sign from now on; may be repeated")
	fl.StringArrayVar(&revoke, "revoke", nil, "public key that may sign no more, nor have signed; may be repeated")
	fl.StringVar(&reason, "reason", "", "with --revoke: why")
	fl.StringArrayVar(&signedBy, "signed-by", nil, "public key of a root that signed the list so far, where --root is a new one; may be repeated")
	fl.Uint64Var(&serial, "serial", 0, "serial of the list: above the last that cards have read (default: one more than the list had)")
	cmd.MarkFlagRequired("root")
	return cmd
}

// changeList revokes and adds keys of files.
func changeList(l *trust.KeyList, add, revoke []string, reason string) error {
	for _, name := range revoke {
		k, err := anyKey(name)
		if err != nil {
			return err
		}
		l.Revoke(k.public, reason)
	}
	for _, name := range add {
		k, err := anyKey(name)
		if err != nil {
			return err
		}
		if err := l.Add(name, k.public); err != nil {
			return err
		}
	}
	l.Serial++
	return nil
}
