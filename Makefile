# make demo     shows the main job on this machine, and leaves nothing behind
# make test     runs every test, installing the servers they need
# make soak     random histories of syncing without end, with their seeds; DEWFS_SEED replays one
# make fuzz     a minute of fuzzing for each parser of what others send (FUZZ_SECONDS)
# make bench    measures it beside the native file system and curl, and its parts
# make lint     formatting, lints, links in the documentation
# make package  a .deb and a .rpm in target/package
# make install  PREFIX=/usr/local DESTDIR= SBINDIR=/sbin UNITDIR=$(PREFIX)/lib/systemd

PREFIX  ?= /usr/local
SBINDIR ?= /sbin
DESTDIR ?=
CARGO   ?= cargo

BINDIR  = $(DESTDIR)$(PREFIX)/bin
UNITDIR ?= $(PREFIX)/lib/systemd
MANDIR  = $(DESTDIR)$(PREFIX)/share/man
LIBEXECDIR = $(PREFIX)/libexec
BASH_COMPLETIONS = $(DESTDIR)$(PREFIX)/share/bash-completion/completions
ZSH_COMPLETIONS  = $(DESTDIR)$(PREFIX)/share/zsh/site-functions
FISH_COMPLETIONS = $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d

RELEASE = $(or $(CARGO_TARGET_DIR),target)/release

# Where the tests add up how many histories, crash points and faults they tried.
TRIED = $(abspath $(or $(CARGO_TARGET_DIR),target))/tried

# How many tests run at once: most of the time of most of them is waiting (with twice as many as cores, these were idle for 45 %).
AT_ONCE ?= $(shell echo $$(($$(nproc) * 3)))

# How many random histories of syncing every run of all tests tries; alone, so that no other test waits for them.
HISTORIES ?= 20000

# Tests build the programs of their own package. Those of mount-helper they find built; not with the rest, whose dependencies have other
# features without the tests', so that all of it would be built twice.

# Run a second time without passthrough, as on older kernels and for ordinary users.
KERNEL = binary(mount)

.PHONY: all build demo test soak fuzz bench lint deny install install-built package uninstall clean

all: build

build:
	$(CARGO) build --release --locked --workspace

demo:
	scripts/demo

test:
	scripts/test-servers
	$(CARGO) build --locked --package mount-helper
	$(CARGO) test --locked --workspace --doc --quiet
	@mkdir -p $(dir $(TRIED)) && rm -f $(TRIED)
	@export DEWFS_TRIED=$(TRIED); \
	if $(CARGO) nextest --version >/dev/null 2>&1; then \
		$(CARGO) nextest run --locked --workspace --no-fail-fast --test-threads $(AT_ONCE) -E 'not binary(sync)' && \
		DEWFS_TEST_PASSTHROUGH=off $(CARGO) nextest run --locked --no-fail-fast --test-threads $(AT_ONCE) -E '$(KERNEL)'; \
	else \
		$(CARGO) test --locked --workspace --no-fail-fast --lib --bins --tests && \
		DEWFS_TEST_PASSTHROUGH=off $(CARGO) test --locked --no-fail-fast --test mount; \
	fi && \
	DEWFS_HISTORIES=$(HISTORIES) RUST_BACKTRACE=0 $(CARGO) test --quiet --locked --test sync; \
	outcome=$$?; scripts/tried $(TRIED); exit $$outcome

soak:
	$(CARGO) test --locked --test sync --no-run
	@first=$${DEWFS_FIRST:-$$(date +%s)}; while :; do \
		DEWFS_FIRST=$$first DEWFS_HISTORIES=3000 $(CARGO) test --quiet --locked --test sync -- --nocapture || exit 1; \
		first=$$((first + 1000)); \
	done

fuzz:
	@scripts/fuzz

bench: build
	scripts/test-servers
	$(CARGO) build --release --locked --example bare_fuse
	benches/bench.py --dewfs $(RELEASE)/dewfs
	$(CARGO) bench --locked --bench rooms

lint:
	$(CARGO) fmt --all --check
	$(CARGO) fmt --manifest-path fuzz/Cargo.toml --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --locked --workspace --no-deps --quiet

deny:
	$(CARGO) deny --locked check bans licenses sources

# Who installs is root, whom nobody's cargo is known to: what was built is taken as it is, and only what is missing is built.
install:
	@for program in dewfs mount-dewfs dewfs-helper; do \
		test -x "$(RELEASE)/$$program" || { $(MAKE) build && break; } || exit 1; \
	done
	@$(MAKE) --no-print-directory install-built

# Installs what `build` has built; packages call it by itself. mount(8) finds mount.dewfs in SBINDIR alone, and that finds the
# dewfs of its own PREFIX from where it lies itself.
install-built:
	install -D -m 755 $(RELEASE)/dewfs $(BINDIR)/dewfs
ifeq ($(PREFIX),/usr)
	install -D -m 755 $(RELEASE)/mount-dewfs $(DESTDIR)$(SBINDIR)/mount.dewfs
else
	install -D -m 755 $(RELEASE)/mount-dewfs $(DESTDIR)$(LIBEXECDIR)/mount.dewfs
	install -d $(DESTDIR)$(SBINDIR)
	ln -sfn $(LIBEXECDIR)/mount.dewfs $(DESTDIR)$(SBINDIR)/mount.dewfs
endif
	for manager in user system; do \
		install -d "$(DESTDIR)$(UNITDIR)/$$manager" || exit 1; \
		sed 's,/usr/bin/dewfs,$(PREFIX)/bin/dewfs,' "systemd/$$manager/dewfs@.service" \
			> "$(DESTDIR)$(UNITDIR)/$$manager/dewfs@.service" || exit 1; \
		chmod 644 "$(DESTDIR)$(UNITDIR)/$$manager/dewfs@.service"; \
	done
	install -D -m 755 $(RELEASE)/dewfs-helper $(DESTDIR)$(LIBEXECDIR)/dewfs-helper
	install -D -m 644 systemd/dewfs-helper.socket $(DESTDIR)$(UNITDIR)/system/dewfs-helper.socket
	sed 's|@LIBEXECDIR@|$(LIBEXECDIR)|' systemd/dewfs-helper.service > $(DESTDIR)$(UNITDIR)/system/dewfs-helper.service
	chmod 644 $(DESTDIR)$(UNITDIR)/system/dewfs-helper.service
	install -D -m 644 systemd/user/confined.conf $(DESTDIR)$(PREFIX)/share/dewfs/confined.conf
	pages=$$(mktemp -d) && trap 'rm -r "$$pages"' EXIT && $(RELEASE)/dewfs man "$$pages" && \
	for page in "$$pages"/*; do \
		install -D -m 644 "$$page" "$(MANDIR)/man$${page##*.}/$${page##*/}" || exit 1; \
	done
	install -d $(BASH_COMPLETIONS) $(ZSH_COMPLETIONS) $(FISH_COMPLETIONS)
	$(RELEASE)/dewfs completions bash > $(BASH_COMPLETIONS)/dewfs
	$(RELEASE)/dewfs completions zsh > $(ZSH_COMPLETIONS)/_dewfs
	$(RELEASE)/dewfs completions fish > $(FISH_COMPLETIONS)/dewfs.fish

package: build
	scripts/package $(PACKING) --built $(RELEASE) $(or $(CARGO_TARGET_DIR),target)/package

uninstall:
	rm -f $(DESTDIR)$(UNITDIR)/user/dewfs@.service $(DESTDIR)$(UNITDIR)/system/dewfs@.service
	rm -f $(DESTDIR)$(UNITDIR)/system/dewfs-helper.socket $(DESTDIR)$(UNITDIR)/system/dewfs-helper.service
	rm -f $(DESTDIR)$(PREFIX)/share/dewfs/confined.conf
	rm -f $(BINDIR)/dewfs $(DESTDIR)$(SBINDIR)/mount.dewfs $(DESTDIR)$(LIBEXECDIR)/mount.dewfs
	rm -f $(DESTDIR)$(LIBEXECDIR)/dewfs-helper
	rm -f $(MANDIR)/man1/dewfs.1 $(MANDIR)/man1/dewfs-*.1 $(MANDIR)/man8/mount.dewfs.8
	rm -f $(MANDIR)/man5/dewfs.toml.5 $(MANDIR)/man7/dewfs-semantics.7
	rm -f $(BASH_COMPLETIONS)/dewfs $(ZSH_COMPLETIONS)/_dewfs $(FISH_COMPLETIONS)/dewfs.fish

clean:
	$(CARGO) clean
