# shellcheck shell=bash
# Images without Docker and without a registry: buildah builds them, containerd imports them.

PAUSE_IMAGE=localhost/vigie-pause:1
IMAGES=$CACHE/images # archives, named by the hash of their contents

image() {
  local verb=${1:-}
  shift || true
  case $verb in
    build)
      (($# == 2)) || refuse "image build wants NAME DIR"
      local name archive
      [[ $(recorded profile) == real ]] || lock_for_node # fails and names the missing prerequisite
      name=$(full_image_name "$1")
      archive=$(image_archive "$1" "$2") # without the lock: other commands may run meanwhile
      lock_for_node
      load_image "$name" "$archive"
      ;;
    archive)
      (($# == 2)) || refuse "image archive wants NAME DIR"
      check_machine
      image_archive "$1" "$2"
      ;;
    load)
      (($# == 1)) || refuse "image load wants FILE"
      [[ -r $1 ]] || refuse "image load: there is no file $1"
      lock_for_node
      containers images import "$1" || fail "containerd did not take $1"
      ;;
    *) refuse "image knows build NAME DIR, archive NAME DIR and load FILE" ;;
  esac
}

# The name by which the kubelet will request the image from containerd.
full_image_name() {
  local name=$1
  [[ $name =~ ^[a-z0-9][a-z0-9./:_-]*$ ]] || refuse "no name for an image: $name"
  [[ ${name##*/} == *:* ]] || name+=:latest
  [[ $name == */* ]] || name=library/$name
  [[ ${name%%/*} == *[.:]* || ${name%%/*} == localhost ]] || name=docker.io/$name
  printf '%s' "$name"
}

# image_archive NAME DIR: prints the path of the OCI archive, built if it is not there.
image_archive() {
  local name dir=$2 key archive unfinished
  name=$(full_image_name "$1")
  [[ -f $dir/Dockerfile ]] || refuse "there is no $dir/Dockerfile"
  key=$(key_of_image "$name" "$dir")
  archive=$IMAGES/$key.tar
  if [[ ! -f $archive ]]; then
    mkdir -p "$IMAGES"
    unfinished=$(mktemp -d "$IMAGES/unfinished.XXXXXX")
    if ! build_image "$name" "$dir" "$unfinished" >"$unfinished/log" 2>&1; then
      complain "building the image $name failed; its last lines:"
      tail -n 20 "$unfinished/log" | sed 's/^/    /' >&2
      rm -rf "$unfinished"
      exit 1
    fi
    mv "$unfinished/image.tar" "$archive"
    rm -rf "$unfinished"
    forget_old_images
  fi
  touch "$archive"
  printf '%s\n' "$archive"
}

# Archives that were not used for a month, and the rest of interrupted builds.
forget_old_images() {
  find "$IMAGES" -maxdepth 1 -name '*.tar' -mtime +30 -delete
  find "$IMAGES" -maxdepth 1 -name 'unfinished.*' -mmin +60 -exec rm -rf {} +
}

# The key: names, modes, links and contents of all files of DIR.
key_of_image() {
  {
    printf '%s\n' "$1"
    (
      cd "$2"
      find . -mindepth 1 -printf '%P %y %m %l\n' | LC_ALL=C sort
      find . -type f -print0 | LC_ALL=C sort -z | xargs -0r sha256sum
    )
  } | sha256sum | cut -c1-32
}

# build_image NAME DIR SCRATCH, in a subshell. Needs no registry, no daemon and no namespaces of its own.
build_image() (
  umask 022 # every user in the image may read its files
  name=$1 dir=$2 scratch=$3
  printf '{ "default": [{ "type": "insecureAcceptAnything" }] }\n' >"$scratch/policy.json"
  buildah=(buildah --root "$scratch/root" --runroot "$scratch/run" --storage-driver vfs)
  "${buildah[@]}" bud --isolation chroot --pull-never --signature-policy "$scratch/policy.json" \
    --timestamp 0 --tag "$name" "$dir" &&
    "${buildah[@]}" push --signature-policy "$scratch/policy.json" "$name" "oci-archive:$scratch/image.tar:$name"
)

# load_image NAME ARCHIVE: unless containerd already has exactly this image.
load_image() {
  local name=$1 archive=$2 known=$MACHINE/images/${1//\//_}
  mkdir -p "$MACHINE/images"
  if [[ $(cat "$known" 2>/dev/null) == "$archive" && -n $(containers images list -q "name==$name") ]]; then
    return
  fi
  containers images import "$archive" >"$LOGS/import.log" 2>&1 ||
    fail "containerd did not take the image $name; see $LOGS/import.log"
  [[ -n $(containers images list -q "name==$name") ]] || fail "$archive did not bring the image $name"
  printf '%s\n' "$archive" >"$known"
}

# Compiled here, because pods need it and there is no registry.
load_pause_image() {
  local scratch archive key
  key=$(cat "$HERE"/real/pause/* | sha256sum | cut -c1-32)
  archive=$IMAGES/pause-$key.tar
  if [[ ! -f $archive ]]; then
    scratch=$(mktemp -d)
    cp "$HERE"/real/pause/* "$scratch"
    "${CC:-cc}" -static -Os -s -o "$scratch/pause" "$scratch/pause.c" || fail "could not compile the pause image's program"
    chmod 755 "$scratch/pause" # pods that run as another user start it too
    rm "$scratch/pause.c"
    mkdir -p "$IMAGES"
    mv "$(image_archive "$PAUSE_IMAGE" "$scratch")" "$archive"
    rm -rf "$scratch"
  fi
  load_image "$PAUSE_IMAGE" "$archive"
}

# Takes the lock of a cluster that has a node whose containerd runs.
lock_for_node() {
  lock_cluster || fail "no cluster in $CLUSTER_DIR: start one with up --profile real"
  [[ $(recorded profile) == real ]] || fail "the cluster in $CLUSTER_DIR has no real node: start one with up --profile real"
  use_profile real
  profile_resume
  alive containerd || fail "containerd does not run: repair the cluster with up --profile real"
}
