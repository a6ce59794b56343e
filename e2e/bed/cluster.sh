#!/usr/bin/env bash
# A real one-node Kubernetes on this machine, without a container engine: API server, controllers,
# scheduler, kubelet, kube-proxy, kubectl and etcd in one binary built from source, with containerd,
# runc, CNI and CoreDNS.
#
#   cluster.sh up            build what is missing, start everything, print KUBECONFIG
#   cluster.sh load FILE     put an OCI archive into the node's image store
#   cluster.sh down          stop everything that `up` started and remove its state
#
# Needs root. State: $IDM_BED (default /var/tmp/idm-bed). Binaries are cached in $IDM_CACHE
# (default ~/.cache/idm), keyed by the sources they are built from.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
BED=${IDM_BED:-/var/tmp/idm-bed}
CACHE=${IDM_CACHE:-$HOME/.cache/idm}
NODE_IP=172.31.255.1 # on a bridge of our own; never leaves this machine
VERSION=v1.36.3
pki=$BED/pki logs=$BED/logs conf=$BED/conf run=/run/idm-bed
socket=$run/containerd.sock

key() { cat "$@" | sha256sum | cut -c1-16; }
bin=$CACHE/bed-$(key "$here"/kubernetes/* "$here"/coredns/* "$0")

start() { # NAME COMMAND…: in the background, with a log and a pid file
  local name=$1
  shift
  setsid nohup "$@" >"$logs/$name.log" 2>&1 &
  echo $! >"$BED/pids/$name"
}

wait_for() { # SECONDS WHAT COMMAND…
  local left=$(($1 * 5)) what=$2
  shift 2
  until "$@" >/dev/null 2>&1; do
    left=$((left - 1))
    [ $left -gt 0 ] || { echo "gave up waiting for $what; logs are in $logs" >&2; return 1; }
    sleep 0.2
  done
}

certificate() { # FILE CN ORGANIZATION SAN
  openssl req -newkey rsa:2048 -nodes -keyout "$pki/$1.key" -out "$pki/$1.csr" -subj "/O=$3/CN=$2" 2>/dev/null
  openssl x509 -req -in "$pki/$1.csr" -CA "$pki/ca.crt" -CAkey "$pki/ca.key" -CAcreateserial -days 30 \
    -out "$pki/$1.crt" -extfile <(echo "subjectAltName=$4") 2>/dev/null
  cat >"$conf/$1.conf" <<Y
apiVersion: v1
kind: Config
clusters: [{name: bed, cluster: {server: "https://127.0.0.1:6443", certificate-authority: $pki/ca.crt}}]
users: [{name: user, user: {client-certificate: $pki/$1.crt, client-key: $pki/$1.key}}]
contexts: [{name: bed, context: {cluster: bed, user: user}}]
current-context: bed
Y
}

packages() {
  command -v containerd >/dev/null && command -v nft >/dev/null && command -v conntrack >/dev/null && [ -d /usr/lib/cni ] && return
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
    containerd runc containernetworking-plugins iptables nftables conntrack ipset openssl iproute2 gcc libc6-dev >/dev/null
}

build() {
  [ -x "$bin/done" ] && return
  mkdir -p "$bin"
  echo "building Kubernetes from source; this takes minutes, once" >&2
  local info="k8s.io/component-base/version"
  (cd "$here/kubernetes" && CGO_ENABLED=0 go build -trimpath -o "$bin/kubernetes" \
    -ldflags "-s -w -X $info.gitVersion=$VERSION -X $info.gitMajor=1 -X $info.gitMinor=36" .)
  (cd "$here/coredns" && CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o "$bin/coredns" .)
  gcc -static -Os -o "$bin/pause" "$here/pause.c"
  printf '#!/bin/sh\nexec "%s/kubernetes" kubectl "$@"\n' "$bin" >"$bin/kubectl"
  chmod +x "$bin/kubectl"
  touch "$bin/done" && chmod +x "$bin/done"
}

configure() {
  mkdir -p "$pki" "$logs" "$conf/cni" "$BED/pids" "$run"
  openssl req -x509 -newkey rsa:2048 -nodes -keyout "$pki/ca.key" -out "$pki/ca.crt" -subj /CN=bed-ca -days 30 2>/dev/null
  openssl genrsa -out "$pki/sa.key" 2048 2>/dev/null
  openssl rsa -in "$pki/sa.key" -pubout -out "$pki/sa.pub" 2>/dev/null
  certificate apiserver kube-apiserver kubernetes "DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:localhost,IP:127.0.0.1,IP:10.96.0.1,IP:$NODE_IP"
  certificate admin admin system:masters DNS:admin
  certificate kubelet system:node:node system:nodes "DNS:node,IP:127.0.0.1,IP:$NODE_IP"
  for component in kube-controller-manager kube-scheduler kube-proxy; do certificate $component system:$component system:$component DNS:$component; done
  cat >"$conf/containerd.toml" <<T
version = 2
root = "$BED/containerd"
state = "$run/containerd"
[grpc]
  address = "$socket"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "idm.local/pause:1"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "$conf/cni"
T
  cat >"$conf/cni/10-bed.conflist" <<J
{"cniVersion": "0.4.0", "name": "bed", "plugins": [
  {"type": "bridge", "bridge": "cni-idm-bed", "isGateway": true, "hairpinMode": true,
   "ipam": {"type": "host-local", "dataDir": "$BED/cni", "ranges": [[{"subnet": "10.244.0.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
J
  cat >"$conf/kubelet.yaml" <<Y
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
cgroupDriver: cgroupfs
failCgroupV1: false
failSwapOn: false
containerRuntimeEndpoint: unix://$socket
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $pki/ca.crt}}
authorization: {mode: Webhook}
tlsCertFile: $pki/kubelet.crt
tlsPrivateKeyFile: $pki/kubelet.key
clusterDNS: [$NODE_IP]
clusterDomain: cluster.local
enforceNodeAllocatable: []
# Its chains would stay in the machine's firewall.
makeIPTablesUtilChains: false
localStorageCapacityIsolation: false
syncFrequency: 10s
evictionHard: {memory.available: 50Mi}
Y
  cat >"$conf/kube-proxy.yaml" <<Y
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
clusterCIDR: 10.244.0.0/16
clientConnection: {kubeconfig: $conf/kube-proxy.conf}
conntrack: {maxPerCore: 0}
hostnameOverride: node
Y
  cat >"$conf/Corefile" <<C
cluster.local:53 {
  bind $NODE_IP
  errors
  kubernetes cluster.local {
    kubeconfig $conf/admin.conf
  }
}
C
}

up() {
  packages
  build
  [ ! -d "$BED/pids" ] || down
  configure
  ip link show br-idm-bed >/dev/null 2>&1 || { ip link add br-idm-bed type bridge; ip addr add $NODE_IP/24 dev br-idm-bed; ip link set br-idm-bed up; }
  sysctl -qw net.ipv4.ip_forward=1
  export KUBECONFIG=$conf/admin.conf
  local k=$bin/kubernetes
  start containerd containerd --config "$conf/containerd.toml"
  start etcd "$k" etcd --data-dir "$BED/etcd" --unsafe-no-fsync --listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379 --listen-peer-urls http://127.0.0.1:2380
  start kube-apiserver "$k" kube-apiserver --etcd-servers=http://127.0.0.1:2379 --bind-address=0.0.0.0 --advertise-address=$NODE_IP --secure-port=6443 \
    --service-cluster-ip-range=10.96.0.0/16 --client-ca-file="$pki/ca.crt" --tls-cert-file="$pki/apiserver.crt" --tls-private-key-file="$pki/apiserver.key" \
    --service-account-issuer=https://kubernetes.default.svc --service-account-key-file="$pki/sa.pub" --service-account-signing-key-file="$pki/sa.key" \
    --authorization-mode=Node,RBAC --allow-privileged=true --kubelet-client-certificate="$pki/admin.crt" --kubelet-client-key="$pki/admin.key" --kubelet-preferred-address-types=InternalIP
  wait_for 60 "the API server" "$bin/kubectl" get --raw=/readyz
  start kube-controller-manager "$k" kube-controller-manager --kubeconfig="$conf/kube-controller-manager.conf" --service-account-private-key-file="$pki/sa.key" \
    --root-ca-file="$pki/ca.crt" --use-service-account-credentials --cluster-signing-cert-file="$pki/ca.crt" --cluster-signing-key-file="$pki/ca.key" --leader-elect=false
  start kube-scheduler "$k" kube-scheduler --kubeconfig="$conf/kube-scheduler.conf" --leader-elect=false
  load "$(pause_image)"
  start kubelet "$k" kubelet --config "$conf/kubelet.yaml" --kubeconfig "$conf/kubelet.conf" --hostname-override node --node-ip $NODE_IP --root-dir "$BED/kubelet" --cert-dir "$BED/kubelet/pki"
  start kube-proxy "$k" kube-proxy --config "$conf/kube-proxy.yaml"
  start coredns "$bin/coredns" -conf "$conf/Corefile"
  wait_for 60 "the node" sh -c "'$bin/kubectl' get node node | grep -q ' Ready'"
  echo "$KUBECONFIG"
}

pause_image() {
  "${IDM_IMAGE:?set IDM_IMAGE to the idm-image tool}" --reference idm.local/pause:1 --entrypoint /pause --file "/pause=$bin/pause" --output "$BED/pause.tar"
  echo "$BED/pause.tar"
}

load() { ctr -a $socket -n k8s.io images import "$1" >/dev/null; }

stop() { # NAME…: ask, and insist after two seconds
  local pids=() pid
  for name; do
    pid=$(cat "$BED/pids/$name" 2>/dev/null) || continue
    # After a machine was restarted, the number may be that of a stranger's process.
    grep -qE "$BED/|$run/" "/proc/$pid/cmdline" 2>/dev/null && pids+=("$pid")
  done
  [ ${#pids[@]} -gt 0 ] || return 0
  kill "${pids[@]}" 2>/dev/null || true
  for _ in $(seq 20); do kill -0 "${pids[@]}" 2>/dev/null || break; sleep 0.1; done
  kill -9 "${pids[@]}" 2>/dev/null || true
}

# The interfaces and network namespaces of pods that were not taken down one by one.
unplug() {
  local interface namespace
  ip -o link show master cni-idm-bed 2>/dev/null | sed -n 's/^[0-9]*: \([^@:]*\)@.*link-netns \([^ ]*\).*/\1 \2/p' |
    while read -r interface namespace; do
      ip link del "$interface" 2>/dev/null || true
      ip netns del "$namespace" 2>/dev/null || true
    done
}

down() {
  stop kubelet coredns kube-proxy kube-scheduler kube-controller-manager kube-apiserver etcd
  if [ -S $socket ]; then
    # The socket of a containerd that was killed is still there: nobody answers, and nothing is left to remove.
    { timeout 10 ctr -a $socket -n k8s.io tasks ls -q 2>/dev/null || true; } |
      while read -r task; do ctr -a $socket -n k8s.io tasks rm -f "$task" >/dev/null 2>&1 || true; done
  fi
  stop containerd
  awk -v bed="$BED/" -v run="$run" 'index($2, bed) == 1 || index($2, run) == 1 {print $2}' /proc/mounts | sort -r | xargs -r umount -l 2>/dev/null || true
  rm -rf "$BED" $run
  nft delete table ip kube-proxy 2>/dev/null || true
  nft delete table ip6 kube-proxy 2>/dev/null || true
  unplug
  ip link del cni-idm-bed 2>/dev/null || true
  ip link del br-idm-bed 2>/dev/null || true
}

case ${1:-} in
up) up ;;
down) down ;;
load) load "$2" ;;
bin) packages >&2; build; echo "$bin" ;;
*) sed -n '2,12p' "$0"; exit 2 ;;
esac
