//! The memory that this process may use: the limit of its cgroup, or that of the machine.

use std::path::Path;

/// The mount point of the cgroup file system.
const CGROUPS: &str = "/sys/fs/cgroup";
/// The first value of a limit that means none: cgroup v1 shows the largest multiple of a page below 2^63.
const UNLIMITED: u64 = 1 << 60;

/// The most memory that this process may use, in bytes; `None` when neither a limit nor the memory of the machine can be
/// read.
pub(super) fn available() -> Option<u64> {
    smallest(|file| std::fs::read_to_string(file).ok())
}

/// The smallest of all limits, read by `read`. A container may see its own cgroup as the root or by its path on the node,
/// and the limit of a cgroup above it counts too.
fn smallest(read: impl Fn(&str) -> Option<String>) -> Option<u64> {
    let own = read("/proc/self/cgroup").unwrap_or_default();
    let mut files = Vec::new();
    for line in own.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        let (mount, name) = match controllers {
            "" => (CGROUPS.to_owned(), "memory.max"),
            _ if controllers.split(',').any(|one| one == "memory") => {
                (format!("{CGROUPS}/memory"), "memory.limit_in_bytes")
            }
            _ => continue,
        };
        files.extend(Path::new(path).ancestors().map(|group| format!("{mount}{}/{name}", trimmed(group))));
    }
    let limits = files.iter().filter_map(|file| read(file)?.trim().parse().ok());
    limits.filter(|limit| *limit < UNLIMITED).chain(of_machine(&read)).min()
}

/// The path of a cgroup without its last slash, so that the root is empty.
fn trimmed(group: &Path) -> &str {
    group.to_str().unwrap_or_default().trim_end_matches('/')
}

fn of_machine(read: impl Fn(&str) -> Option<String>) -> Option<u64> {
    let text = read("/proc/meminfo")?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MI_B: u64 = 1024 * 1024;

    fn among(files: &[(&str, &str)]) -> Option<u64> {
        smallest(|file| files.iter().find(|(name, _)| *name == file).map(|(_, text)| (*text).to_owned()))
    }

    #[test]
    fn the_smallest_limit_counts_wherever_it_stands() {
        let machine = ("/proc/meminfo", "MemTotal:       24683520 kB\nMemFree: 1 kB\n");
        let v2 = ("/proc/self/cgroup", "0::/kubepods/pod1/vigie\n");
        let v1 = ("/proc/self/cgroup", "12:cpu,cpuacct:/a\n5:memory:/docker/1\n1:name=systemd:/docker/1\n");
        for (files, expected) in [
            (&[][..], None),
            (&[machine], Some(24_683_520 * 1024)),
            (
                &[machine, ("/proc/self/cgroup", "0::/\n"), ("/sys/fs/cgroup/memory.max", "536870912\n")],
                Some(512 * MI_B),
            ),
            (&[machine, v2, ("/sys/fs/cgroup/kubepods/pod1/vigie/memory.max", "268435456\n")], Some(256 * MI_B)),
            (&[machine, v2, ("/sys/fs/cgroup/kubepods/pod1/memory.max", "134217728\n")], Some(128 * MI_B)),
            // The path is that on the node, and the container sees only its own cgroup.
            (&[machine, v2, ("/sys/fs/cgroup/memory.max", "536870912\n")], Some(512 * MI_B)),
            (&[machine, v2, ("/sys/fs/cgroup/memory.max", "max\n")], Some(24_683_520 * 1024)),
            (&[machine, v1, ("/sys/fs/cgroup/memory/docker/1/memory.limit_in_bytes", "268435456\n")], Some(256 * MI_B)),
            (&[v1, ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n")], None),
            (&[("/proc/meminfo", "MemTotal: many\n"), ("/proc/self/cgroup", "nonsense\n0:\n")], None),
        ] {
            assert_eq!(among(files), expected, "{files:?}");
        }
    }

    #[test]
    fn this_machine_has_some() {
        assert!(available().is_some_and(|bytes| bytes > MI_B));
    }
}
