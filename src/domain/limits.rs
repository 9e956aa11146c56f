//! How much is too much, and which names are refused.

/// The limits of the service. Each is a setting; those on what is stored are about single agents, so none of
/// them can be used up by another tenant.
#[derive(Clone, Debug)]
pub struct Limits {
    /// The longest key, in bytes.
    pub key_bytes: usize,
    /// The longest value, in bytes of UTF-8.
    pub value_bytes: usize,
    /// The most keys an agent may have.
    pub keys_per_agent: usize,
    /// The most bytes of all `name=value\0` strings of an agent. Linux gives a process about 2 MiB for
    /// arguments and environment and 128 KiB for one string: found at set, never at exec.
    pub agent_bytes: usize,
    /// The most watches under way at a time.
    pub watches: usize,
    /// Accept names that make the loaders of languages run code, such as `NODE_OPTIONS`.
    pub allow_loader_names: bool,
}

/// Names that change how any program on Linux runs.
const REFUSED: &[&str] = &[
    "BASHOPTS",
    "BASH_ENV",
    "ENV",
    "GCONV_PATH",
    "GIT_EXEC_PATH",
    "GIT_EXTERNAL_DIFF",
    "GIT_SSH",
    "GIT_SSH_COMMAND",
    "HOME",
    "HOSTALIASES",
    "IFS",
    "LOGNAME",
    "OLDPWD",
    "PATH",
    "PROMPT_COMMAND",
    "PS4",
    "PWD",
    "RES_OPTIONS",
    "SHELL",
    "SHELLOPTS",
    "TMPDIR",
    "USER",
];

/// Families of such names; `SUPERSERVE_` is the platform's own.
const REFUSED_PREFIXES: &[&str] = &["DYLD_", "LD_", "SUPERSERVE_"];

/// Names by which the loaders of languages can be made to run code or to load it from elsewhere.
const LOADERS: &[&str] = &[
    "BUNDLE_GEMFILE",
    "CLASSPATH",
    "CORECLR_PROFILER_PATH",
    "DOTNET_STARTUP_HOOKS",
    "GEM_HOME",
    "GEM_PATH",
    "JAVA_OPTS",
    "JAVA_TOOL_OPTIONS",
    "JDK_JAVA_OPTIONS",
    "LUA_CPATH",
    "LUA_INIT",
    "LUA_PATH",
    "NODE_OPTIONS",
    "NODE_PATH",
    "PERL5DB",
    "PERL5LIB",
    "PERL5OPT",
    "PERLLIB",
    "PHPRC",
    "PHP_INI_SCAN_DIR",
    "PYTHONHOME",
    "PYTHONINSPECT",
    "PYTHONPATH",
    "PYTHONSTARTUP",
    "PYTHONUSERBASE",
    "PYTHONWARNINGS",
    "RUBYLIB",
    "RUBYOPT",
    "_JAVA_OPTIONS",
];

impl Default for Limits {
    fn default() -> Self {
        Self {
            key_bytes: 128,
            value_bytes: 65_536,
            keys_per_agent: 100,
            agent_bytes: 256 * 1024,
            watches: 20_000,
            allow_loader_names: false,
        }
    }
}

impl Limits {
    /// Whether a name is refused although it is well-formed. Names are compared as Linux does: with case.
    #[must_use]
    pub fn refuses(&self, name: &str) -> bool {
        REFUSED.contains(&name)
            || REFUSED_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
            || (!self.allow_loader_names && LOADERS.contains(&name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_names_that_change_how_programs_run() {
        let limits = Limits::default();
        for name in ["PATH", "LD_PRELOAD", "DYLD_X", "SUPERSERVE_TOKEN", "NODE_OPTIONS", "BASH_ENV"] {
            assert!(limits.refuses(name), "{name}");
        }
        for name in ["path", "LDAP_URL", "MY_PATH", "ANTHROPIC_API_KEY", "SUPERSERVE"] {
            assert!(!limits.refuses(name), "{name}");
        }
    }

    #[test]
    fn an_operator_may_allow_loaders_but_not_the_rest() {
        let limits = Limits { allow_loader_names: true, ..Limits::default() };
        assert!(!limits.refuses("NODE_OPTIONS"));
        assert!(limits.refuses("LD_PRELOAD"));
    }
}
