#!/usr/bin/env bash
# node.sh N: one node, with container runtime, kubelet and kube-proxy; the first one shares the network of the control
# plane, each other one has a network namespace of its own, as if it were another machine.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"

number=$1
name=node$number
address=$node_network.$number
folder=$CLUSTER/$name
log=$CLUSTER/log
mkdir -p "$folder/cni" "$CLUSTER/pods"

in_node=()
if [[ $number -gt 1 ]]; then
  # Held by the file, not by a process. `ip netns exec` would enter it too, but hides the cgroups.
  touch "$folder/net"
  unshare --net="$folder/net" ip link set lo up
  in_node=(nsenter --net="$folder/net")
  ip link add "$name" type veth peer name eth0 netns "$folder/net"
  ip link set "$name" master lan up
  "${in_node[@]}" ip address add "$address/24" dev eth0
  "${in_node[@]}" ip link set eth0 up
  "${in_node[@]}" ip route add default via "$node_network.1"
  "${in_node[@]}" ip route add "$pod_network.1.0/24" via "$node_network.1"
  "${in_node[@]}" sysctl -qw net.ipv4.ip_forward=1
  ip route add "$pod_network.$number.0/24" via "$address"
fi

background() {
  setsid "${in_node[@]}" "${@:2}" >"$log/$name-$1.log" 2>&1 &
}

# Two kubelets that shared a cgroup would take each other's pods for leftovers.
cgroup=/$CLUSTER_CGROUP-$name
for hierarchy in /sys/fs/cgroup/*/; do
  [[ ! -e $hierarchy/cgroup.procs ]] || mkdir -p "$hierarchy$cgroup"
done
# A new cpuset has no processor and no memory to run on until it is told which.
for file in cpuset.cpus cpuset.mems; do
  [[ ! -e /sys/fs/cgroup/cpuset/$file ]] || cat "/sys/fs/cgroup/cpuset/$file" >"/sys/fs/cgroup/cpuset$cgroup/$file"
done

cat >"$folder/containerd.toml" <<END
version = 2
root = "$folder/containerd"
state = "$folder/containerd-state"
[grpc]
  address = "$folder/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/pause:1"
  restrict_oom_score_adj = true
  enable_unprivileged_ports = true
  stream_server_address = "127.0.0.1"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "$folder/cni"
END
# Point to point, not a bridge: every packet passes the node's rules in both directions, also between two pods.
cat >"$folder/cni/pods.conflist" <<END
{"cniVersion": "0.4.0", "name": "pods", "plugins": [{"type": "ptp", "ipam": {
  "type": "host-local", "dataDir": "$folder/addresses",
  "ranges": [[{"subnet": "$pod_network.$number.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}}]}
END
echo "nameserver $dns_address" >"$folder/resolv.conf"
# The limits on disk are off: the test uses a folder of the machine's disk, which may well be 90 % full.
cat >"$folder/kubelet.yaml" <<END
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: $address
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $CLUSTER/pki/ca.crt}}
authorization: {mode: Webhook}
cgroupDriver: cgroupfs
cgroupRoot: $cgroup
clusterDNS: [$dns_address]
clusterDomain: cluster.local
containerRuntimeEndpoint: unix://$folder/containerd.sock
evictionHard: {memory.available: "0%", nodefs.available: "0%", nodefs.inodesFree: "0%", imagefs.available: "0%"}
failCgroupV1: false
failSwapOn: false
imageGCHighThresholdPercent: 100
maxOpenFiles: $(ulimit -Hn)
oomScoreAdj: 0
podLogsDir: $CLUSTER/pods/$name
resolvConf: $folder/resolv.conf
END

background containerd containerd --config "$folder/containerd.toml"
control=(ctr --address "$folder/containerd.sock" --namespace k8s.io)
eventually 60 "containerd of $name" "${control[@]}" version
for image in "$CLUSTER"/images/*.tar; do
  "${control[@]}" images import "$image" >>"$log/$name-images.log"
done

# The limits of connection tracking are the machine's, and not this namespace's to set.
background proxy kube-proxy --kubeconfig="$CLUSTER/proxy.kubeconfig" --hostname-override="$name" \
  --proxy-mode=nftables --cluster-cidr="$pod_network.0.0/16" --oom-score-adj=0 --conntrack-max-per-core=0 \
  --conntrack-tcp-timeout-established=0 --conntrack-tcp-timeout-close-wait=0
# One after the other: a kubelet that starts removes the socket for device plugins, whose place cannot be chosen, and
# another one that is about to listen there ends.
exec 9>"$CLUSTER/turn"
flock 9
background kubelet kubelet --config="$folder/kubelet.yaml" --kubeconfig="$CLUSTER/$name.kubeconfig" \
  --hostname-override="$name" --node-ip="$address" --root-dir="$folder/kubelet" --cert-dir="$folder/kubelet-pki" 9>&-
eventually 120 "$name to be ready" kubectl wait --for=condition=Ready "node/$name" --timeout=5s
say "$name is ready"
