//! Reads `nft -j list ruleset`: tables, chains, rules and sets as JSON, also those that iptables made.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::{IpNet, IpSubnets, Ipv4Subnets, Ipv6Subnets};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::agent::facts::{Action, Chain, Condition, Family, Hook, Rule};

/// Most networks of a set that are told; a rule with a larger one is not understood.
const MAX_NETWORKS: usize = 64;

#[derive(Deserialize)]
struct Ruleset {
    nftables: Vec<Item>,
}

/// One object of the list. All others (tables, counters, elements) are left out.
#[derive(Deserialize)]
struct Item {
    #[serde(default)]
    chain: Option<ChainItem>,
    #[serde(default)]
    rule: Option<RuleItem>,
    #[serde(default)]
    set: Option<SetItem>,
    /// Its elements are pairs of a key and a verdict.
    #[serde(default)]
    map: Option<SetItem>,
}

#[derive(Deserialize)]
struct ChainItem {
    family: String,
    table: String,
    name: String,
    #[serde(default, rename = "type")]
    type_: Option<String>,
    #[serde(default)]
    hook: Option<String>,
    #[serde(default)]
    policy: Option<String>,
}

#[derive(Deserialize)]
struct RuleItem {
    family: String,
    table: String,
    chain: String,
    #[serde(default)]
    expr: Vec<Value>,
}

#[derive(Deserialize)]
struct SetItem {
    family: String,
    table: String,
    name: String,
    #[serde(default)]
    elem: Vec<Value>,
}

/// Sets and maps by table and name.
type Sets = BTreeMap<(String, String), Vec<Value>>;

/// The chains in the output of `nft -j list ruleset`.
///
/// # Errors
/// It is not that output.
pub fn parse(printed: &[u8]) -> Result<Vec<Chain>, String> {
    let Ruleset { nftables } =
        serde_json::from_slice(printed).map_err(|error| format!("the output of nft -j: {error}"))?;
    let (mut chains, mut sets, mut rules) = (Vec::new(), Sets::new(), Vec::new());
    for item in nftables {
        chains.extend(item.chain.and_then(chain));
        rules.extend(item.rule);
        if let Some(SetItem { family, table, name, elem }) = item.set.or(item.map) {
            sets.insert((table_name(&family, &table), name), elem);
        }
    }
    let mut at: BTreeMap<(String, String), usize> = BTreeMap::new();
    for (index, chain) in chains.iter().enumerate() {
        at.insert((chain.table.clone(), chain.name.clone()), index);
    }
    for item in rules {
        let table = table_name(&item.family, &item.table);
        if let Some(index) = at.get(&(table.clone(), item.chain.clone())) {
            chains[*index].rules.extend(Reader { table: &table, sets: &sets }.rules(&item.expr));
        }
    }
    Ok(chains)
}

fn table_name(family: &str, table: &str) -> String {
    format!("{family} {table}")
}

fn chain(item: ChainItem) -> Option<Chain> {
    let family = match &*item.family {
        "ip" => Family::V4,
        "ip6" => Family::V6,
        "inet" => Family::Both,
        _ => return None,
    };
    let hook = match (item.type_.as_deref(), item.hook.as_deref()) {
        (Some("nat"), Some("postrouting")) => Some(Hook::Postrouting),
        (Some("filter"), Some("forward")) => Some(Hook::Forward),
        _ => None,
    };
    let drops = hook.is_some() && item.policy.as_deref() == Some("drop");
    Some(Chain {
        family,
        table: table_name(&item.family, &item.table),
        name: item.name,
        hook,
        drops,
        rules: Vec::new(),
    })
}

/// Reads the rules of one table.
struct Reader<'a> {
    table: &'a str,
    sets: &'a Sets,
}

impl Reader<'_> {
    /// One rule; with a verdict map, which comes last, one for each of its elements.
    fn rules(&self, expressions: &[Value]) -> Vec<Rule> {
        let mut rule = Rule { conditions: Vec::new(), action: Action::Continue };
        for expression in expressions {
            let Some((name, value)) = expression.as_object().and_then(|object| object.iter().next()) else {
                rule.conditions.push(Condition::Other("an expression".to_owned()));
                continue;
            };
            match &**name {
                "match" => rule.conditions.extend(self.condition(value)),
                "counter" | "log" | "comment" | "limit" | "quota" | "ct count" | "mangle" | "notrack" => {
                    // A limit is a condition; the others let every packet pass.
                    let is_condition = matches!(&**name, "limit" | "quota" | "ct count");
                    rule.conditions.extend(is_condition.then(|| Condition::Other(name.clone())));
                }
                "xt" => extension(value, &mut rule),
                "vmap" => {
                    return self
                        .values(&value["data"])
                        .into_iter()
                        .map(|pair| self.verdict(&rule, value, pair))
                        .collect();
                }
                _ => rule.action = action(name, value),
            }
        }
        vec![rule]
    }

    /// The rule of one element of a verdict map.
    fn verdict(&self, before: &Rule, map: &Value, pair: &Value) -> Rule {
        let mut rule = before.clone();
        let (key, verdict) = (element(&pair[0]), pair[1].as_object().and_then(|verdict| verdict.iter().next()));
        rule.conditions.extend(self.condition(&json!({"left": map["key"], "right": key})));
        rule.action = verdict.map_or_else(|| Action::Other("vmap".to_owned()), |(name, value)| action(name, value));
        rule
    }

    fn condition(&self, value: &Value) -> Option<Condition> {
        let (left, right) = (&value["left"], &value["right"]);
        let not = match value["op"].as_str() {
            Some("==" | "in") | None => false,
            Some("!=") => true,
            Some(_) => return Some(Condition::Other("a comparison".to_owned())),
        };
        let other = |name: &str| Some(Condition::Other(name.to_owned()));
        if let Some(payload) = left.get("payload") {
            let field = payload["field"].as_str().unwrap_or("a field");
            let is_ip = matches!(payload["protocol"].as_str(), Some("ip" | "ip6"));
            return match (field, self.networks(right)) {
                ("saddr", Some(of)) if is_ip => Some(Condition::Source { of, not }),
                ("daddr", Some(of)) if is_ip => Some(Condition::Destination { of, not }),
                _ => other(field),
            };
        }
        // A mark is compared as it is, or a part of it.
        let meta = left.get("meta").or_else(|| left["&"].as_array()?.iter().find_map(|part| part.get("meta")));
        if let Some(meta) = meta {
            let key = meta["key"].as_str().unwrap_or("meta");
            return match (key, self.texts(right)) {
                ("iifname" | "iif", Some(of)) => Some(Condition::In { of, not }),
                ("oifname" | "oif", Some(of)) => Some(Condition::Out { of, not }),
                ("nfproto" | "protocol", Some(of)) => family(&of, not).or_else(|| other(key)),
                ("mark", _) => Some(Condition::Mark),
                _ => other(key),
            };
        }
        match left["ct"]["key"].as_str() {
            Some("mark") => Some(Condition::Mark),
            Some("state") => match self.texts(right) {
                // The first packet of a connection is new: for it this is no condition at all.
                Some(states) if states.iter().any(|state| state == "new") != not => None,
                Some(_) => Some(Condition::Established),
                None => other("ct state"),
            },
            _ => other(left.as_object().and_then(|left| left.keys().next()).map_or("a match", String::as_str)),
        }
    }

    /// The values on the right side: one, a set in braces, or a named set.
    fn values<'v>(&'v self, right: &'v Value) -> Vec<&'v Value> {
        let named = right.as_str().and_then(|name| name.strip_prefix('@'));
        let named = named.and_then(|name| self.sets.get(&(self.table.to_owned(), name.to_owned())));
        match (named, right["set"].as_array().or_else(|| right.as_array())) {
            (Some(elements), _) | (None, Some(elements)) => elements.iter().map(element).collect(),
            (None, None) => vec![right],
        }
    }

    fn texts(&self, right: &Value) -> Option<Vec<String>> {
        let values = self.values(right);
        values.into_iter().map(|value| Some(value.as_str()?.to_owned())).collect()
    }

    fn networks(&self, right: &Value) -> Option<Vec<IpNet>> {
        let mut all = Vec::new();
        for value in self.values(right) {
            all.extend(networks_of(value)?);
        }
        (all.len() <= MAX_NETWORKS).then_some(all)
    }
}

/// An element of a set, which may stand in an object with its timeout and counters.
fn element(value: &Value) -> &Value {
    value.get("elem").and_then(|elem| elem.get("val")).unwrap_or(value)
}

fn networks_of(value: &Value) -> Option<Vec<IpNet>> {
    let ip = |value: &Value| value.as_str()?.parse::<IpAddr>().ok();
    if let Some(one) = ip(value) {
        return Some(vec![one.into()]);
    }
    if let Some(prefix) = value.get("prefix") {
        let length = u8::try_from(prefix["len"].as_u64()?).ok()?;
        return Some(vec![IpNet::new(ip(&prefix["addr"])?, length).ok()?]);
    }
    let range = value.get("range")?.as_array()?;
    let subnets = match (ip(range.first()?)?, ip(range.get(1)?)?) {
        (IpAddr::V4(first), IpAddr::V4(last)) => IpSubnets::V4(Ipv4Subnets::new(first, last, 0)),
        (IpAddr::V6(first), IpAddr::V6(last)) => IpSubnets::V6(Ipv6Subnets::new(first, last, 0)),
        _ => return None,
    };
    Some(subnets.take(MAX_NETWORKS + 1).collect())
}

fn family(of: &[String], not: bool) -> Option<Condition> {
    match of {
        [one] if !not && matches!(&**one, "ipv4" | "ip") => Some(Condition::Family(Family::V4)),
        [one] if !not && matches!(&**one, "ipv6" | "ip6") => Some(Condition::Family(Family::V6)),
        _ => None,
    }
}

fn action(name: &str, value: &Value) -> Action {
    let target = || value["target"].as_str().unwrap_or_default().to_owned();
    match name {
        "masquerade" | "snat" => Action::Translate,
        "jump" => Action::Jump(target()),
        "goto" => Action::Goto(target()),
        "accept" => Action::Accept,
        "drop" | "reject" => Action::Drop,
        "return" => Action::Return,
        _ => Action::Other(name.to_owned()),
    }
}

/// An extension of iptables, of which nft tells nothing but the name.
fn extension(value: &Value, rule: &mut Rule) {
    let name = value["name"].as_str().unwrap_or("xt");
    match (value["type"].as_str(), name) {
        (Some("target"), "MASQUERADE" | "SNAT") => rule.action = Action::Translate,
        (Some("target"), "REJECT") => rule.action = Action::Drop,
        (Some("target"), "MARK" | "CONNMARK" | "LOG" | "NFLOG" | "TCPMSS") => {}
        (Some("target"), _) => rule.action = Action::Other(name.to_owned()),
        (_, "comment") => {}
        (_, "mark" | "connmark") => rule.conditions.push(Condition::Mark),
        (_, _) => rule.conditions.push(Condition::Other(name.to_owned())),
    }
}
