//! How questions are answered: what `tributary up` can be told of its GraphQL endpoint.

use std::{path::PathBuf, time::Duration};

use clap::{ArgAction, Args, builder::BoolishValueParser, value_parser};
use graphql::{GraphqlOptions, Limits, ListError, Listed};

const KIB: usize = 1_024;

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "GraphQL")]
pub struct AskingArgs {
    /// Do not answer `__schema` and `__type`
    #[arg(long, env = "TRIBUTARY_GRAPHQL_NO_INTROSPECTION", action = ArgAction::SetTrue)]
    #[arg(value_parser = BoolishValueParser::new())]
    pub graphql_no_introspection: bool,

    /// Do not serve the playground
    #[arg(long, env = "TRIBUTARY_GRAPHQL_NO_PLAYGROUND", action = ArgAction::SetTrue)]
    #[arg(value_parser = BoolishValueParser::new())]
    pub graphql_no_playground: bool,

    /// JSON file of operations that clients may ask for by their hash: {"<SHA-256>": "<text>"}, or an Apollo manifest
    #[arg(long, env = "TRIBUTARY_GRAPHQL_OPERATIONS", value_name = "FILE")]
    pub graphql_operations: Option<PathBuf>,

    /// Answer the operations of that file only
    #[arg(long, env = "TRIBUTARY_GRAPHQL_LISTED_ONLY", action = ArgAction::SetTrue)]
    #[arg(value_parser = BoolishValueParser::new(), requires = "graphql_operations")]
    pub graphql_listed_only: bool,

    /// Nested fields of a document
    #[arg(long, env = "TRIBUTARY_GRAPHQL_DEPTH_MAX", default_value_t = 20)]
    #[arg(value_parser = value_parser!(u16).range(1..=40))]
    pub graphql_depth_max: u16,

    /// Fields times page sizes of a document
    #[arg(long, env = "TRIBUTARY_GRAPHQL_COMPLEXITY_MAX", default_value_t = 10_000)]
    pub graphql_complexity_max: u32,

    /// Aliases of a document
    #[arg(long, env = "TRIBUTARY_GRAPHQL_ALIASES_MAX", default_value_t = 50)]
    pub graphql_aliases_max: u16,

    /// Fields of the query root of a document: each is a database read of its own
    #[arg(long, env = "TRIBUTARY_GRAPHQL_ROOT_FIELDS_MAX", default_value_t = 20)]
    pub graphql_root_fields_max: u16,

    /// Directives of a document
    #[arg(long, env = "TRIBUTARY_GRAPHQL_DIRECTIVES_MAX", default_value_t = 50)]
    pub graphql_directives_max: u16,

    /// Words and signs of a document
    #[arg(long, env = "TRIBUTARY_GRAPHQL_TOKENS_MAX", default_value_t = 2_000)]
    #[arg(value_parser = value_parser!(u16).range(10..=20_000))]
    pub graphql_tokens_max: u16,

    /// Open brackets at any point of a document: the stack of its parser bounds how many there can be
    #[arg(long, env = "TRIBUTARY_GRAPHQL_NESTING_MAX", default_value_t = 48)]
    #[arg(value_parser = value_parser!(u16).range(1..=48))]
    pub graphql_nesting_max: u16,

    /// Selections of a document, fragments spread
    #[arg(long, env = "TRIBUTARY_GRAPHQL_SELECTIONS_MAX", default_value_t = 2_000)]
    #[arg(value_parser = value_parser!(u16).range(1..=20_000))]
    pub graphql_selections_max: u16,

    /// KiB of a request's body, or of a query string
    #[arg(long, env = "TRIBUTARY_GRAPHQL_BODY_KIB_MAX", default_value_t = 256)]
    #[arg(value_parser = value_parser!(u16).range(1..=1_024))]
    pub graphql_body_kib_max: u16,

    /// Seconds after which an operation is cut off. Whoever waits for a token may wait for 30
    #[arg(long, env = "TRIBUTARY_GRAPHQL_SECONDS_MAX", default_value_t = 40)]
    #[arg(value_parser = value_parser!(u16).range(1..=55))]
    pub graphql_seconds_max: u16,

    /// Operations that run at once
    #[arg(long, env = "TRIBUTARY_GRAPHQL_REQUESTS_MAX", default_value_t = 1_024)]
    #[arg(value_parser = value_parser!(u16).range(1..))]
    pub graphql_requests_max: u16,

    /// Of those, the operations of one principal, or of one address without a token
    #[arg(long, env = "TRIBUTARY_GRAPHQL_REQUESTS_PER_PRINCIPAL_MAX", default_value_t = 256)]
    #[arg(value_parser = value_parser!(u16).range(1..))]
    pub graphql_requests_per_principal_max: u16,

    /// Documents that are kept parsed, and known by their hash
    #[arg(long, env = "TRIBUTARY_GRAPHQL_DOCUMENTS_KEPT_MAX", default_value_t = 1_000)]
    pub graphql_documents_kept_max: u16,
}

impl AskingArgs {
    /// Reads the list of operations, if there is one, and checks it.
    pub async fn options(&self) -> Result<GraphqlOptions, ListError> {
        let limits = Limits {
            body_bytes_max: usize::from(self.graphql_body_kib_max) * KIB,
            document_tokens_max: self.graphql_tokens_max.into(),
            document_nesting_max: self.graphql_nesting_max.into(),
            selections_max: self.graphql_selections_max.into(),
            depth_max: self.graphql_depth_max.into(),
            complexity_max: usize::try_from(self.graphql_complexity_max).unwrap_or(usize::MAX),
            aliases_max: self.graphql_aliases_max.into(),
            root_fields_max: self.graphql_root_fields_max.into(),
            directives_max: self.graphql_directives_max.into(),
            execution_max: Duration::from_secs(self.graphql_seconds_max.into()),
            requests_max: self.graphql_requests_max.into(),
            requests_per_principal_max: self.graphql_requests_per_principal_max.into(),
            documents_kept_max: self.graphql_documents_kept_max.into(),
            ..Limits::default()
        };
        let mut options = GraphqlOptions {
            introspection: !self.graphql_no_introspection,
            playground: !self.graphql_no_playground,
            limits,
            ..GraphqlOptions::default()
        };
        if let Some(path) = &self.graphql_operations {
            options.listed = Listed::load(path, self.graphql_listed_only, &options).await?;
            tracing::info!(
                operations = options.listed.len(),
                strict = options.listed.is_strict(),
                "the list of GraphQL operations is loaded"
            );
        }
        Ok(options)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Only {
        #[command(flatten)]
        asking: AskingArgs,
    }

    /// What is said twice is the same twice: a flag's default and the library's.
    #[tokio::test]
    async fn without_flags_the_limits_are_the_default_ones() {
        let options = Only::parse_from(["test"]).asking.options().await.expect("no list");
        let said = format!("{:?}", (options.introspection, options.playground, &options.limits));
        let default = GraphqlOptions::default();
        assert_eq!(said, format!("{:?}", (default.introspection, default.playground, &default.limits)));
    }

    #[tokio::test]
    async fn every_limit_has_a_flag() {
        let flags = [
            "--graphql-depth-max=7",
            "--graphql-complexity-max=8",
            "--graphql-aliases-max=9",
            "--graphql-root-fields-max=10",
            "--graphql-directives-max=11",
            "--graphql-tokens-max=12",
            "--graphql-body-kib-max=13",
            "--graphql-seconds-max=14",
            "--graphql-requests-max=15",
            "--graphql-requests-per-principal-max=16",
            "--graphql-documents-kept-max=17",
            "--graphql-nesting-max=18",
            "--graphql-selections-max=19",
            "--graphql-no-introspection",
            "--graphql-no-playground",
        ];
        let options = Only::parse_from(["test"].into_iter().chain(flags)).asking.options().await.expect("no list");
        let limits = &options.limits;
        let set = [
            limits.depth_max,
            limits.complexity_max,
            limits.aliases_max,
            limits.root_fields_max,
            limits.directives_max,
            limits.document_tokens_max,
            limits.body_bytes_max / KIB,
            usize::try_from(limits.execution_max.as_secs()).expect("small"),
            limits.requests_max,
            limits.requests_per_principal_max,
            limits.documents_kept_max,
            limits.document_nesting_max,
            limits.selections_max,
        ];
        assert_eq!(set, [7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19]);
        assert!(!options.introspection && !options.playground);
    }

    #[test]
    fn strict_mode_needs_a_list() {
        let refused = Only::try_parse_from(["test", "--graphql-listed-only"]).expect_err("no list");
        assert!(refused.to_string().contains("--graphql-operations"), "{refused}");
    }
}
