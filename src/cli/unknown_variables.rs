//! Finds environment variables that start with `BILLHOOK_` but that no command reads, such as a
//! misspelt name.

use clap::{Command, CommandFactory};

use super::Cli;

const PREFIX: &str = "BILLHOOK_";

/// The names in alphabetical order.
pub(super) fn find() -> Vec<String> {
    unknown(std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()))
}

fn unknown(names: impl Iterator<Item = String>) -> Vec<String> {
    let mut known = Vec::new();
    add_variables(&Cli::command(), &mut known);
    let is_unknown = |name: &String| {
        name.starts_with(PREFIX) && !is_set_by_kubernetes(name) && !known.iter().any(|known| known == name)
    };
    let mut unknown: Vec<String> = names.filter(is_unknown).collect();
    unknown.sort_unstable();
    unknown
}

fn add_variables(command: &Command, known: &mut Vec<String>) {
    let variables = command.get_arguments().filter_map(|argument| argument.get_env()?.to_str());
    known.extend(variables.map(str::to_owned));
    for subcommand in command.get_subcommands() {
        add_variables(subcommand, known);
    }
}

/// Kubernetes sets variables for each service in the namespace, and one of them may be named
/// `billhook`
/// (<https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables>).
fn is_set_by_kubernetes(name: &str) -> bool {
    let suffix = name.strip_prefix(PREFIX).unwrap_or_default();
    let is_or_continues =
        |word: &str| suffix.strip_prefix(word).is_some_and(|rest| rest.is_empty() || rest.starts_with('_'));
    suffix == "SERVICE_HOST" || is_or_continues("SERVICE_PORT") || is_or_continues("PORT")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variable_that_no_command_reads_is_unknown() {
        let set = [
            "BILLHOOK_PLAN",
            "BILLHOOK_PLANS",
            "BILLHOOK_WEBHOOK_URL",
            "BILLHOOK_JWT_SECRET_FILE",
            "BILLHOOK_SERVICE_HOST",
            "BILLHOOK_SERVICE_PORT_HTTP",
            "BILLHOOK_PORT",
            "BILLHOOK_PORT_8080_TCP_ADDR",
            "BILLHOOK_PORTAL",
            "BILLHOOK_",
            "HOME",
            "billhook_plan",
        ];
        let unknown = unknown(set.into_iter().map(str::to_owned));
        assert_eq!(unknown, ["BILLHOOK_", "BILLHOOK_PLAN", "BILLHOOK_PORTAL"]);
    }
}
