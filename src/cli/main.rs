//! The command `byol`: parse, call, print. No logic.

mod encoder_args;
mod evaluate;
mod export;
mod extract;
#[cfg(feature = "train")]
mod finetune;
mod fit;
mod knn;
mod linear_eval;
#[cfg(feature = "train")]
mod linear_paper;
mod output;
mod predict;
#[cfg(feature = "train")]
mod pretrain;
mod quantize;
mod source;
mod summary;
#[cfg(feature = "train")]
mod views;

use clap::{Parser, Subcommand};
use output::Output;
use std::process::ExitCode;

/// Learn a visual representation from your own unlabelled pictures (BYOL), export it as one ONNX file, and use it.
#[derive(Parser)]
#[command(version, arg_required_else_help = true, after_help = AFTER_HELP)]
struct Arguments {
    /// Print one JSON object on standard output, for machines. Progress and messages stay on standard error.
    #[arg(long, global = true)]
    json: bool,
    /// Print no progress.
    #[arg(long, short, global = true)]
    quiet: bool,
    #[command(subcommand)]
    command: Command,
}

const AFTER_HELP: &str = "\
Exit codes: 0 done; 1 failed (the message names the file, tensor or value); 2 the command line is wrong; \
130 stopped by Ctrl-C, what was learned so far is saved.

Start here:
  byol pretrain --data photos/ --out run/
      learn an encoder from a folder of pictures
  byol linear-eval run/encoder.onnx --data DIR   how good are its features";

#[derive(Subcommand)]
enum Command {
    #[cfg(feature = "train")]
    Pretrain(pretrain::Arguments),
    Export(export::Arguments),
    Extract(extract::Arguments),
    Quantize(quantize::Arguments),
    LinearEval(linear_eval::Arguments),
    Knn(knn::Arguments),
    Fit(fit::Arguments),
    #[cfg(feature = "train")]
    Finetune(finetune::Arguments),
    Predict(predict::Arguments),
    Evaluate(evaluate::Arguments),
    #[cfg(feature = "train")]
    Views(views::Arguments),
    Summary(summary::Arguments),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let output = Output { json: arguments.json, quiet: arguments.quiet };
    let done = match &arguments.command {
        #[cfg(feature = "train")]
        Command::Pretrain(arguments) => pretrain::run(arguments, &output),
        #[cfg(feature = "train")]
        Command::Views(arguments) => views::run(arguments, &output),
        Command::Export(arguments) => export::run(arguments, &output),
        Command::Extract(arguments) => extract::run(arguments, &output),
        Command::Quantize(arguments) => quantize::run(arguments, &output),
        Command::LinearEval(arguments) => linear_eval::run(arguments, &output),
        Command::Knn(arguments) => knn::run(arguments, &output),
        #[cfg(feature = "train")]
        Command::Finetune(arguments) => finetune::run(arguments, &output),
        Command::Fit(arguments) => fit::run(arguments, &output),
        Command::Evaluate(arguments) => evaluate::run(arguments, &output),
        Command::Predict(arguments) => predict::run(arguments, &output),
        Command::Summary(arguments) => summary::run(arguments, &output),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            output.error(error.as_ref());
            ExitCode::FAILURE
        }
    }
}

/// What a command ends with.
type Done = Result<ExitCode, Box<dyn std::error::Error>>;

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;
    use std::collections::BTreeSet;

    /// clap looks for this in debug builds only; in others such a command refuses whatever it is given.
    #[test]
    fn no_flag_is_defined_twice() {
        for command in Arguments::command().get_subcommands() {
            let (mut names, mut flags) = (BTreeSet::new(), BTreeSet::new());
            for argument in command.get_arguments() {
                assert!(names.insert(argument.get_id().clone()), "{}: {}", command.get_name(), argument.get_id());
                if let Some(flag) = argument.get_long() {
                    assert!(flags.insert(flag.to_owned()), "{}: --{flag}", command.get_name());
                }
            }
        }
    }
}
