# The common commands; `just` lists them.
default:
    @just --list

# Everything that CI runs
ci:
    .ci/run

# All tests but the end-to-end suite
fast:
    ./test --fast

# Format the code
fmt:
    cargo fmt --all

# Write the generated files anew: CRDs, chart CRDs, reference pages, config/default, golden plans
generate:
    cargo build --quiet -p idm
    IDM_UPDATE=1 cargo test --quiet -p idm-api -p idm-tests --test generated
    IDM_UPDATE=1 cargo test --quiet -p idm-compile --test golden

# A container image as an OCI archive: just image idm.local/idm:dev idm.tar
image reference output:
    cargo build --release -p idm
    cargo run --quiet -p idm-e2e --bin idm-image -- --reference {{reference}} --entrypoint /idm --binary target/release/idm --output {{output}}

# The end-to-end suite, or the tests of it that match FILTER
e2e filter="":
    e2e/run {{filter}}

# Every parser that reads bytes from outside, for so many seconds each
fuzz seconds="60":
    tests/fuzz/run {{seconds}}

# Beside nginx, HAProxy and Envoy
bench:
    tests/bench/run
