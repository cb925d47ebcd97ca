# What one uses all day. `just` lists these.

_default:
    @just --list

# See it work
quickstart:
    cargo run --release --example quickstart

# Unit and integration tests
test:
    cargo test

# Real clients, directly and through the sidecar
clients *ARGS:
    cargo build --release
    tests/clients/run {{ARGS}}

# Format and lint
lint:
    cargo fmt --all
    cargo clippy --workspace --all-targets -- -D warnings

# Write the generated pages
docs:
    UPDATE_DOCS=1 cargo test --test it docs

# CPU per call beside HAProxy
cost *ARGS:
    cargo build --profile dist --workspace
    benches/cost {{ARGS}}

# Everything, as CI does
ci:
    bash .ci/run
