# `make image` builds the programs and then this. Nothing runs here, so one machine
# builds for both architectures without emulation.
FROM scratch
ARG TARGETARCH
ARG VERSION
LABEL org.opencontainers.image.title="drain-wait"
LABEL org.opencontainers.image.description="Tells a pod behind an AWS load balancer when it may stop"
LABEL org.opencontainers.image.licenses="Apache-2.0"
LABEL org.opencontainers.image.version="${VERSION}"
COPY --chmod=0755 build/linux/${TARGETARCH}/drain-wait build/linux/${TARGETARCH}/prestop /
USER 65532:65532
ENTRYPOINT ["/drain-wait"]
CMD ["serve"]
