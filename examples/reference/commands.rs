//! The command line, from its definition. The output of `--help` is not used: it depends on the terminal and the environment.

use clap::{Arg, Command};
use vigie::cli::args::command;

use crate::cell;

/// Renders the page about the command line.
pub(crate) fn page() -> String {
    let mut vigie = command(false);
    vigie.build();
    let mut page =
        "# Command line\n\nThe same is in `vigie help COMMAND`. Named `kubectl-vigie` on `PATH`, it is also \
                    `kubectl vigie`.\n"
            .to_owned();
    section(&mut page, "vigie", &vigie);
    page
}

fn section(page: &mut String, path: &str, command: &Command) {
    *page += &format!("\n## {path}\n\n");
    let about = command.get_long_about().or(command.get_about()).map(ToString::to_string).unwrap_or_default();
    *page += &paragraphs(&about);
    let commands: Vec<&Command> =
        command.get_subcommands().filter(|sub| sub.get_name() != "help" && !sub.is_hide_set()).collect();
    if commands.is_empty() {
        flags(page, command);
    } else {
        *page += "| command | what it does |\n|---|---|\n";
        for sub in &commands {
            let about = sub.get_about().map(ToString::to_string).unwrap_or_default();
            *page += &format!("| `{path} {}` | {} |\n", sub.get_name(), cell(&about));
        }
    }
    if let Some(examples) = command.get_after_help() {
        *page += &format!("\n```text\n{examples}\n```\n");
    }
    for sub in commands {
        section(page, &format!("{path} {}", sub.get_name()), sub);
    }
}

/// `text` followed by an empty line, or an empty text.
fn paragraphs(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("{text}\n\n") }
}

fn flags(page: &mut String, command: &Command) {
    let args: Vec<&Arg> = command
        .get_arguments()
        .filter(|arg| !matches!(arg.get_id().as_str(), "help" | "version") && !arg.is_hide_set())
        .collect();
    if args.is_empty() {
        return;
    }
    *page += "| flag | default | environment | what it is |\n|---|---|---|---|\n";
    for arg in args {
        let defaults: Vec<String> =
            arg.get_default_values().iter().map(|value| format!("`{}`", value.to_string_lossy())).collect();
        let default = if arg.get_action().takes_values() { defaults.join(", ") } else { String::new() };
        let environment = arg.get_env().map(|name| format!("`{}`", name.to_string_lossy())).unwrap_or_default();
        *page += &format!("| {} | {default} | {environment} | {} |\n", cell(&usage(arg)), cell(&help(arg)));
    }
}

/// The argument as a user types it.
fn usage(arg: &Arg) -> String {
    let value = match arg.get_value_names() {
        Some(names) if arg.get_action().takes_values() => {
            names.iter().map(|name| format!(" {name}")).collect::<String>()
        }
        _ => String::new(),
    };
    match (arg.get_short(), arg.get_long()) {
        (Some(short), Some(long)) => format!("`-{short}`, `--{long}{value}`"),
        (None, Some(long)) => format!("`--{long}{value}`"),
        (Some(short), None) => format!("`-{short}{value}`"),
        (None, None) => format!("`{}`", value.trim()),
    }
}

/// The help of an argument, with its possible values.
fn help(arg: &Arg) -> String {
    let help = arg.get_long_help().or(arg.get_help()).map(ToString::to_string).unwrap_or_default();
    // clap removes the full stop of the first paragraph, and here the help is one line.
    let help = help.replacen("\n\n", ". ", 1);
    let values: Vec<String> = arg
        .get_possible_values()
        .iter()
        .filter(|_| arg.get_action().takes_values())
        .map(|value| match value.get_help() {
            Some(help) => format!("`{}` ({help})", value.get_name()),
            None => format!("`{}`", value.get_name()),
        })
        .collect();
    if values.is_empty() { help } else { format!("{help}. One of {}", values.join(", ")) }
}
