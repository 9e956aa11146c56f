//! TEMPORARY
mod operator;
use crate::config::*;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
#[derive(Parser, Debug)]
struct Cli {
    #[command(subcommand)]
    c: C,
}
#[derive(Subcommand, Debug)]
enum C {
    Serve(ServeSettings),
    Migrate(StorageSettings),
    #[command(subcommand)]
    Keys(operator::KeysCommand),
}
/// TMP
pub async fn run() -> i32 {
    let env = Environment::of_process();
    let args: Vec<_> = std::env::args_os().collect();
    let cmd = operator::layered(Cli::command(), &args, &env).unwrap();
    let cli = Cli::from_arg_matches(&cmd.get_matches_from(&args)).unwrap();
    let (mut o, mut e) = (std::io::stdout(), std::io::stderr());
    let r = match cli.c {
        C::Serve(s) => operator::serve(s, &env, &mut e).await,
        C::Migrate(s) => operator::migrate(&s, &mut e).await,
        C::Keys(k) => operator::keys(&k, &mut o, &mut e).await,
    };
    if let Err(x) = r {
        eprintln!("error: {x}");
        return 1;
    }
    0
}
