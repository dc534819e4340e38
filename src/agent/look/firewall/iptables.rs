//! Reads the output of `iptables-save`: lines `*table`, `:CHAIN POLICY [0:0]` and `-A CHAIN …`.

use ipnet::IpNet;

use crate::agent::facts::{Action, Chain, Condition, Family, Hook, Rule};

/// The chains of the tables `nat` and `filter`.
pub fn parse(printed: &[u8], family: Family) -> Vec<Chain> {
    let text = String::from_utf8_lossy(printed);
    let (mut chains, mut table): (Vec<Chain>, Option<&str>) = (Vec::new(), None);
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('*') {
            table = ["nat", "filter"].into_iter().find(|known| *known == name);
        } else if let (Some(table), Some(declared)) = (table, line.strip_prefix(':')) {
            chains.push(chain(declared, table, family));
        } else if let (Some(table), Some(rule)) = (table, line.strip_prefix("-A ")) {
            let words = split(rule);
            let Some((name, words)) = words.split_first() else { continue };
            let is_it = |chain: &&mut Chain| chain.table == table_name(table, family) && chain.name == *name;
            if let Some(chain) = chains.iter_mut().find(is_it) {
                chain.rules.push(read_rule(words));
            }
        }
    }
    chains
}

fn table_name(table: &str, family: Family) -> String {
    let tool = if family == Family::V6 { "ip6tables" } else { "iptables" };
    format!("{tool} {table}")
}

/// `POSTROUTING ACCEPT [0:0]`; a chain that only jumps lead to has the policy `-`.
fn chain(declared: &str, table: &str, family: Family) -> Chain {
    let mut words = declared.split(' ');
    let (name, policy) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let hook = match (table, name) {
        ("nat", "POSTROUTING") => Some(Hook::Postrouting),
        ("filter", "FORWARD") => Some(Hook::Forward),
        _ => None,
    };
    let drops = hook.is_some() && policy == "DROP";
    Chain { family, table: table_name(table, family), name: name.to_owned(), hook, drops, rules: Vec::new() }
}

/// The words of a rule; a comment may stand in quotes.
fn split(line: &str) -> Vec<String> {
    let (mut words, mut word, mut is_quoted) = (Vec::new(), String::new(), false);
    let mut characters = line.chars();
    while let Some(c) = characters.next() {
        match c {
            '\\' if is_quoted => word.extend(characters.next()),
            '"' => is_quoted = !is_quoted,
            ' ' if !is_quoted => words.push(std::mem::take(&mut word)),
            _ => word.push(c),
        }
    }
    words.push(word);
    words.retain(|word| !word.is_empty());
    words
}

fn read_rule(words: &[String]) -> Rule {
    let mut rule = Rule { conditions: Vec::new(), action: Action::Continue };
    let (mut module, mut not) = (String::new(), false);
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let mut value = || words.next().cloned().unwrap_or_default();
        let condition = match word.as_str() {
            "!" => {
                not = true;
                continue;
            }
            "-m" => {
                module = value();
                None
            }
            "-j" => {
                rule.action = action(&value());
                // The rest are settings of the action.
                break;
            }
            "-g" => {
                rule.action = Action::Goto(value());
                None
            }
            "-s" => Some(address(&value(), |of| Condition::Source { of, not })),
            "-d" => Some(address(&value(), |of| Condition::Destination { of, not })),
            "-i" => Some(Condition::In { of: vec![interface(&value())], not }),
            "-o" => Some(Condition::Out { of: vec![interface(&value())], not }),
            "--comment" => {
                value();
                None
            }
            "--mark" => Some(value()).map(|_| Condition::Mark),
            // The first packet of a connection is new: for it this is no condition at all.
            "--state" | "--ctstate" => {
                let meets_new = value().split(',').any(|state| state == "NEW") != not;
                (!meets_new).then_some(Condition::Established)
            }
            "-p" => Some(Condition::Other(format!("protocol {}", value()))),
            option if option.starts_with('-') => Some(Condition::Other(format!("{module} {option}"))),
            // The value of an option that is not known.
            _ => None,
        };
        not = false;
        rule.conditions.extend(condition);
    }
    rule
}

fn address(value: &str, condition: impl Fn(Vec<IpNet>) -> Condition) -> Condition {
    let network = value.parse::<IpNet>().ok().or_else(|| value.parse::<std::net::IpAddr>().ok().map(IpNet::from));
    network.map_or_else(|| Condition::Other("an address".to_owned()), |network| condition(vec![network]))
}

/// iptables ends a name that others begin with by `+`.
fn interface(name: &str) -> String {
    name.strip_suffix('+').map_or_else(|| name.to_owned(), |begin| format!("{begin}*"))
}

fn action(target: &str) -> Action {
    match target {
        "MASQUERADE" | "SNAT" => Action::Translate,
        "ACCEPT" => Action::Accept,
        "DROP" | "REJECT" => Action::Drop,
        "RETURN" => Action::Return,
        "MARK" | "CONNMARK" | "LOG" | "NFLOG" | "TCPMSS" => Action::Continue,
        "" => Action::Other("nothing".to_owned()),
        // Another target, or a chain: a jump to what is no chain leads nowhere.
        other => Action::Jump(other.to_owned()),
    }
}
