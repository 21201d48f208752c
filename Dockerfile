FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
RUN cargo build --release --locked

FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /src/target/release/driftless /usr/local/bin/driftless
ENTRYPOINT ["/usr/local/bin/driftless"]
