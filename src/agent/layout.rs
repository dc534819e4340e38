//! The files, folders and units of the agent on a host.

/// The folder of the configuration and the token.
pub const CONFIG_FOLDER: &str = "/etc/vigie";
/// The configuration of both halves.
pub const CONFIG: &str = "/etc/vigie/agent.yaml";
/// The token, unless `tokenFile` names another file. systemd gives it to the agent as a credential.
pub const TOKEN: &str = "/etc/vigie/agent.token";
/// The binary that the units run.
pub const BINARY: &str = "/usr/local/bin/vigie";
/// The folder of units that an administrator adds.
pub const UNITS: &str = "/etc/systemd/system";
/// The unit of the half with the network.
pub const AGENT_UNIT: &str = "vigie-agent.service";
/// The unit of the half with the privilege. Both are in one slice.
pub const HELPER_UNIT: &str = "vigie-agent-helper.service";
/// The user of the agent where systemd gives no credentials (before 247).
pub const USER: &str = "vigie-agent";
/// The folder of what the agent remembers.
pub const AGENT_STATE: &str = "/var/lib/vigie-agent";
/// The folder in which systemd keeps [`AGENT_STATE`] of a dynamic user.
pub const PRIVATE_AGENT_STATE: &str = "/var/lib/private/vigie-agent";
/// The folder of the record of restarts, and of a pause.
pub const HELPER_STATE: &str = "/var/lib/vigie-agent-helper";
/// The folder in which the agent says how it does.
pub const RUNTIME: &str = "/run/vigie-agent";
/// The file of [`RUNTIME`] with the reason for a stop, which the installation leaves before it stops the agent.
pub const STOPPING: &str = "stopping";
/// The socket of the helper. It is in a folder of the helper: systemd empties the agent's own at each stop of the agent.
pub const SOCKET: &str = "/run/vigie-agent-helper/helper.sock";
