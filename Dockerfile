# The operator's image. scripts/image (`make image`) prepares its files, because the binary needs only these: itself,
# the dynamic loader, the few libraries that it names, the certificates that clients trust. No shell, no package
# manager, nothing to update but vigie itself.
FROM scratch
COPY root/ /
# An unprivileged user: no file is written here, and the user owns none.
USER 65532:65532
ENV SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
EXPOSE 8080 9090
LABEL org.opencontainers.image.title="vigie" \
      org.opencontainers.image.description="Keeps connectors and monitored backends honest and running" \
      org.opencontainers.image.licenses="Apache-2.0"
ENTRYPOINT ["/usr/bin/vigie"]
CMD ["run"]
