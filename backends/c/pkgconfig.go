package c

import (
	"fmt"

	"nepcoc/internal/version"
)

// pkgConfig describes the library for pkg-config. As it is emitted it means the folder that it lies in, where make builds the library;
// make install writes it anew for the place that it installs to.
func (u *unit) pkgConfig() string {
	p := u.prefix()
	tables := ""
	if len(u.file) > 0 {
		tables = fmt.Sprintf("tables=${datadir}/%s.bin\n", p)
	}
	return fmt.Sprintf(`prefix=${pcfiledir}
libdir=${prefix}
includedir=${prefix}
datadir=${prefix}
%[2]sdigest=%[3]s

Name: %[1]s
Description: integer model of network traffic
Version: %[4]s
Libs: -L${libdir} -l%[1]s
Cflags: -I${includedir}
`, p, tables, u.b.Digest, version.Version)
}

// install are the Makefile's lines that install the library.
func (u *unit) install() string {
	p := u.prefix()
	tables := ""
	if len(u.file) > 0 {
		tables = fmt.Sprintf("\n\tinstall -m 644 %s.bin $(DESTDIR)$(PREFIX)/share/%s/", p, p)
	}
	return fmt.Sprintf(`PREFIX ?= /usr/local
install: lib%[1]s.a
	install -d $(DESTDIR)$(PREFIX)/include $(DESTDIR)$(PREFIX)/lib/pkgconfig $(DESTDIR)$(PREFIX)/share/%[1]s
	install -m 644 %[1]s.h $(DESTDIR)$(PREFIX)/include/
	install -m 644 lib%[1]s.a $(DESTDIR)$(PREFIX)/lib/%[2]s
	sed -e 's|^prefix=.*|prefix=$(PREFIX)|' -e 's|^libdir=.*|libdir=$${prefix}/lib|' \
	  -e 's|^includedir=.*|includedir=$${prefix}/include|' -e 's|^datadir=.*|datadir=$${prefix}/share/%[1]s|' \
	  %[1]s.pc > $(DESTDIR)$(PREFIX)/lib/pkgconfig/%[1]s.pc
`, p, tables)
}

// mesonVariables continues Meson's description for pkg-config, and installs the file of tables where there is one.
func (u *unit) mesonVariables() string {
	digest := fmt.Sprintf("'digest=%s'", u.b.Digest)
	if len(u.file) == 0 {
		return fmt.Sprintf(", variables: [%s]", digest)
	}
	p := u.prefix()
	return fmt.Sprintf(", variables: ['tables=' + get_option('prefix') / get_option('datadir') / '%[1]s' / '%[1]s.bin', %[2]s])\n"+
		"install_data('%[1]s.bin', install_dir: get_option('datadir') / '%[1]s'", p, digest)
}
