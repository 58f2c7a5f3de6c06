//! Variables that look like ours and are not. A misspelt name sets nothing, and nothing else would say so.

use clap::{Command, CommandFactory};

use super::Cli;

const PREFIX: &str = "BILLHOOK_";

/// The variables of the environment that begin as ours do and that no command reads.
pub(super) fn find() -> Vec<String> {
    let set = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    unknown(set)
}

fn unknown(set: impl Iterator<Item = String>) -> Vec<String> {
    let mut known = Vec::new();
    add_variables(&Cli::command(), &mut known);
    let is_unknown = |name: &String| {
        name.starts_with(PREFIX) && !is_of_kubernetes(name) && !known.iter().any(|known| known == name)
    };
    let mut unknown: Vec<String> = set.filter(is_unknown).collect();
    unknown.sort_unstable();
    unknown
}

fn add_variables(command: &Command, known: &mut Vec<String>) {
    let named = command.get_arguments().filter_map(|argument| argument.get_env()?.to_str());
    known.extend(named.map(str::to_owned));
    for subcommand in command.get_subcommands() {
        add_variables(subcommand, known);
    }
}

/// Kubernetes sets variables for each service of a namespace, and one may be called `billhook`
/// (<https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables>).
fn is_of_kubernetes(name: &str) -> bool {
    let of_service = name.strip_prefix(PREFIX).unwrap_or_default();
    let is_or_continues = |word: &str| {
        of_service.strip_prefix(word).is_some_and(|rest| rest.is_empty() || rest.starts_with('_'))
    };
    of_service == "SERVICE_HOST" || is_or_continues("SERVICE_PORT") || is_or_continues("PORT")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_variables_that_no_command_reads_are_unknown() {
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
