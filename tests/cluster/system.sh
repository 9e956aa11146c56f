#!/usr/bin/env bash
# What the cluster tests take from Debian, installed as root: control plane's store, container runtime, network, images.
set -euo pipefail

export DEBIAN_FRONTEND=noninteractive
apt-get -qq -o Acquire::Retries=3 update </dev/null
apt-get -qq -o Acquire::Retries=3 -o Dpkg::Use-Pty=0 install --yes --no-install-recommends --no-upgrade \
  buildah busybox-static conntrack containerd containernetworking-plugins curl etcd-client etcd-server haproxy \
  iproute2 musl-tools nftables openssl patroni postgresql-15 runc unzip </dev/null >/dev/null
