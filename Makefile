# make demo     shows the main job on this machine, and leaves nothing behind
# make test     runs every test, installing the servers they need
# make soak     random histories of syncing without end, with their seeds; DEWFS_SEED replays one
# make bench    measures it beside the native file system and curl, and its parts
# make lint     formatting, lints, licences
# make install  PREFIX=/usr/local DESTDIR= SBINDIR=/sbin

PREFIX  ?= /usr/local
SBINDIR ?= /sbin
DESTDIR ?=
CARGO   ?= cargo

BINDIR  = $(DESTDIR)$(PREFIX)/bin
MANDIR  = $(DESTDIR)$(PREFIX)/share/man
LIBEXECDIR = $(PREFIX)/libexec
UNITDIR    = $(PREFIX)/lib/systemd/system
BASH_COMPLETIONS = $(DESTDIR)$(PREFIX)/share/bash-completion/completions
ZSH_COMPLETIONS  = $(DESTDIR)$(PREFIX)/share/zsh/site-functions
FISH_COMPLETIONS = $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d

RELEASE = $(or $(CARGO_TARGET_DIR),target)/release

# Run a second time without passthrough, as on older kernels and for ordinary users.
KERNEL = binary(/^mount_(attributes|bytes|life|names|passthrough|webdav)$$/)

.PHONY: all build demo test soak bench lint deny install uninstall clean

all: build

build:
	$(CARGO) build --release --locked --workspace

demo:
	scripts/demo

test:
	scripts/test-servers
	$(CARGO) build --locked --workspace
	$(CARGO) test --locked --workspace --doc --quiet
	@if $(CARGO) nextest --version >/dev/null 2>&1; then \
		$(CARGO) nextest run --locked --workspace --no-fail-fast && \
		DEWFS_TEST_PASSTHROUGH=off $(CARGO) nextest run --locked --no-fail-fast -E '$(KERNEL)'; \
	else \
		$(CARGO) test --locked --workspace --no-fail-fast --lib --bins --tests && \
		DEWFS_TEST_PASSTHROUGH=off $(CARGO) test --locked --no-fail-fast --test 'mount_*'; \
	fi

soak:
	$(CARGO) test --locked --test sync --no-run
	@first=$${DEWFS_FIRST:-$$(date +%s)}; while :; do \
		DEWFS_FIRST=$$first DEWFS_HISTORIES=100 $(CARGO) test --quiet --locked --test sync -- --nocapture || exit 1; \
		first=$$((first + 100)); \
	done

bench: build
	scripts/test-servers
	benches/bench.py --dewfs $(RELEASE)/dewfs
	$(CARGO) bench --locked --bench rooms

lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings

deny:
	$(CARGO) deny --locked check bans licenses sources

install: build
	install -D -m 755 $(RELEASE)/dewfs $(BINDIR)/dewfs
	install -D -m 755 $(RELEASE)/mount-dewfs $(DESTDIR)$(SBINDIR)/mount.dewfs
	install -D -m 755 $(RELEASE)/dewfs-helper $(DESTDIR)$(LIBEXECDIR)/dewfs-helper
	install -D -m 644 systemd/dewfs-helper.socket $(DESTDIR)$(UNITDIR)/dewfs-helper.socket
	sed 's|@LIBEXECDIR@|$(LIBEXECDIR)|' systemd/dewfs-helper.service > $(DESTDIR)$(UNITDIR)/dewfs-helper.service
	chmod 644 $(DESTDIR)$(UNITDIR)/dewfs-helper.service
	rm -rf $(RELEASE)/man
	$(RELEASE)/dewfs man $(RELEASE)/man
	for page in $(RELEASE)/man/*; do \
		install -D -m 644 "$$page" "$(MANDIR)/man$${page##*.}/$${page##*/}" || exit 1; \
	done
	install -d $(BASH_COMPLETIONS) $(ZSH_COMPLETIONS) $(FISH_COMPLETIONS)
	$(RELEASE)/dewfs completions bash > $(BASH_COMPLETIONS)/dewfs
	$(RELEASE)/dewfs completions zsh > $(ZSH_COMPLETIONS)/_dewfs
	$(RELEASE)/dewfs completions fish > $(FISH_COMPLETIONS)/dewfs.fish

uninstall:
	rm -f $(BINDIR)/dewfs $(DESTDIR)$(SBINDIR)/mount.dewfs $(DESTDIR)$(LIBEXECDIR)/dewfs-helper
	rm -f $(DESTDIR)$(UNITDIR)/dewfs-helper.socket $(DESTDIR)$(UNITDIR)/dewfs-helper.service
	rm -f $(MANDIR)/man1/dewfs.1 $(MANDIR)/man1/dewfs-*.1 $(MANDIR)/man8/mount.dewfs.8
	rm -f $(MANDIR)/man5/dewfs.toml.5 $(MANDIR)/man7/dewfs-semantics.7
	rm -f $(BASH_COMPLETIONS)/dewfs $(ZSH_COMPLETIONS)/_dewfs $(FISH_COMPLETIONS)/dewfs.fish

clean:
	$(CARGO) clean
