//! Generated pages are what the code would generate now. `UPDATE_DOCS=1 cargo test --test it docs` writes them.

use std::path::Path;

use clap::CommandFactory as _;
use spanner_sidecar::config::Cli;
use spanner_sidecar::status;

fn compare(page: &str, generated: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(page);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, generated).expect("docs/ can be written");
    }
    let current = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(current == generated, "docs/{page} is out of date: UPDATE_DOCS=1 cargo test --test it docs");
}

#[test]
fn the_page_of_errors_is_that_of_the_table() {
    compare("errors.md", &status::document());
}

#[test]
fn the_page_of_the_command_line_is_its_help() {
    // The values of this shell's environment are nobody's documentation.
    let mut command = Cli::command().term_width(110).mut_args(|argument| argument.hide_env_values(true));
    command.build();
    let help = |command: &mut clap::Command| {
        let text = command.render_long_help().to_string();
        text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
    };
    let mut page =
        String::from("# The command line\n\n<!-- Generated from src/config/cli.rs: UPDATE_DOCS=1 cargo test --test it docs -->\n\n");
    page.push_str(&format!("```text\n{}\n```\n", help(&mut command)));
    for name in ["healthcheck", "wait", "drain", "status"] {
        let subcommand =
            command.find_subcommand_mut(name).expect("a subcommand").clone().mut_args(|argument| argument.hide_env_values(true));
        page.push_str(&format!("\n## {name}\n\n```text\n{}\n```\n", help(&mut subcommand.clone())));
    }
    compare("command-line.md", &page);
}
