// Makes a test cluster's certificates, with the standard library only.
module vigie.dev/cluster/certificates

go 1.26.0
