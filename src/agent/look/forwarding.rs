//! Whether the kernel forwards packets, for all interfaces and for single ones.

use std::collections::BTreeMap;
use std::path::Path;

use crate::agent::facts::Forwarding;

const ROOT: &str = "/proc/sys/net";

/// Reads the settings of the kernel and of `links`.
pub(super) fn read<'a>(links: impl IntoIterator<Item = &'a str>) -> Result<Forwarding, String> {
    let v4 = setting("ipv4/ip_forward");
    if v4.is_none() && !Path::new(ROOT).exists() {
        return Err(format!("{ROOT} cannot be read"));
    }
    let of = |link: &str| {
        let one = |family: &str| setting(&format!("{family}/conf/{}/forwarding", link));
        (one("ipv4"), one("ipv6"))
    };
    let links: BTreeMap<String, _> = links.into_iter().map(|link| (link.to_owned(), of(link))).collect();
    Ok(Forwarding { v4, v6: setting("ipv6/conf/all/forwarding"), links })
}

fn setting(path: &str) -> Option<bool> {
    let text = super::read_text(&Path::new(ROOT).join(path), 64).ok()?;
    Some(text.trim() != "0")
}
