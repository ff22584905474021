//! `kairos bandit`: the policies that choose tips, for any program.
//!
//! | module | what |
//! |---|---|
//! | [`stdio`] | JSON lines on standard input and output |
//! | [`run`] | `kairos bandit run`: one pass over a reward table |
//! | [`table`] | the reward table |
//! | [`pass`] | the protocol, and what it earned |

mod pass;
mod run;
mod stdio;
mod table;

use clap::{Args, Subcommand};
use scorer::policy::{PolicyConfig, PolicyName};

use crate::error::{Error, Result};

/// Which bandit, and how it is spoken to.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct BanditArgs {
    /// Answer rounds on standard output that come on standard input, both as JSON lines
    #[arg(long)]
    stdio: bool,
    #[command(flatten)]
    which: Which,
    /// A reward may come for one of the last so many rounds
    #[arg(long, value_name = "N", default_value_t = scorer::bandit::Limits::default().rounds)]
    rounds: usize,
    #[command(subcommand)]
    command: Option<BanditCommand>,
}

/// What else a bandit can do.
#[derive(Debug, Subcommand)]
enum BanditCommand {
    /// Play one pass over a table with the reward of every action, and tell the mean reward
    Run(run::RunArgs),
}

/// The policy. The settings of `scorer.policy` do not count here, so that a run is the same everywhere.
#[derive(Debug, Args)]
struct Which {
    /// Policy [default: the one that serves tips]
    #[arg(long, value_name = "POLICY")]
    policy: Option<PolicyName>,
    /// Seed of all that is drawn
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

impl Which {
    fn config(&self) -> PolicyConfig {
        let default = PolicyConfig::default();
        PolicyConfig { name: self.policy.unwrap_or(default.name), ..default }
    }
}

/// Runs the command.
pub fn run(arguments: BanditArgs) -> Result<()> {
    match arguments.command {
        Some(BanditCommand::Run(arguments)) => run::run(&arguments),
        None if arguments.stdio => stdio::serve(&arguments.which, arguments.rounds.max(1)),
        None => Err(Error::Setting(
            "kairos bandit: say `--stdio` to be asked in JSON lines, or `run --data TABLE` to play a reward table".into(),
        )),
    }
}
