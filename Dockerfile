# The operator's image. What it is made from is laid out by scripts/image (`make image`), since a binary needs just this:
# itself, the dynamic loader, the few libraries that it names, the certificates that clients trust.
# No shell, no package manager, nothing to update but vigie itself.
FROM scratch
COPY root/ /
# Nobody's: nothing here is written, and nothing is owned by whoever runs it.
USER 65532:65532
ENV SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
EXPOSE 8080 9090
LABEL org.opencontainers.image.title="vigie" \
      org.opencontainers.image.description="Keeps connectors and monitored backends honest and running" \
      org.opencontainers.image.licenses="Apache-2.0"
ENTRYPOINT ["/usr/bin/vigie"]
CMD ["run"]
