//! What an operator may change, and every bound of this edge with its reason.

use std::time::Duration;

use measures::Level;

pub use crate::documents::listed::{ListError, Listed};
pub use crate::live::options::{
    Admitted, Allowance, Authenticate, Authentication, Closing, LiveLimits, LiveOptions, NotAdmitted,
};

/// How the GraphQL edge behaves. The default is safe to expose as it is.
#[derive(Debug, Clone)]
pub struct GraphqlOptions {
    /// Answer `__schema` and `__type`. The schema is public knowledge; switching it off only hides it from tools.
    pub introspection: bool,
    /// Serve GraphiQL to browsers at the address of the endpoint.
    pub playground: bool,
    pub limits: Limits,
    /// Subscriptions, and the sockets and event streams they go over.
    pub live: LiveOptions,
    pub figures: GraphqlFigures,
    /// Documents that are known from the start, perhaps the only ones that are answered.
    pub listed: Listed,
}

impl Default for GraphqlOptions {
    fn default() -> Self {
        Self {
            introspection: true,
            playground: true,
            limits: Limits::default(),
            live: LiveOptions::default(),
            figures: GraphqlFigures::default(),
            listed: Listed::default(),
        }
    }
}

/// How much there is now, for whoever keeps a clone.
#[derive(Debug, Clone, Default)]
pub struct GraphqlFigures {
    /// Requests that are being answered.
    pub requests: Level,
    pub sockets: Level,
    /// Over sockets and as event streams.
    pub subscriptions: Level,
}

/// The bounds of one request. An error that comes from one of them names it in `extensions.limit`.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Bytes of a request's body, or of a GET's query string: what we are willing to buffer per request.
    pub body_bytes_max: usize,
    /// Lexical tokens of a document. Parsing and validating take time linear in them, so this bounds that time.
    pub document_tokens_max: usize,
    /// Open brackets at any point of a document: the parser recurses once for each, on a bounded stack.
    pub document_nesting_max: usize,
    /// Selections of a document once its fragments are spread: a few fragments that spread each other twice would
    /// otherwise cost 2^n steps to validate.
    pub selections_max: usize,
    /// Nested fields, fragments spread. The introspection query of common tools needs 15.
    pub depth_max: usize,
    /// Fields times page sizes: an upper bound for the values in an answer, lists within an order apart.
    pub complexity_max: usize,
    /// Aliases of an operation: the usual way to ask one expensive thing many times.
    pub aliases_max: usize,
    /// Fields of the query root: each is a database read of its own.
    pub root_fields_max: usize,
    /// Directives of an operation.
    pub directives_max: usize,
    /// Time from a parsed request to its answer. Longer than the longest token wait (30 s).
    pub execution_max: Duration,
    /// Requests executed at once; more are answered 503 instead of queued.
    pub requests_max: usize,
    /// Of those, the requests of one principal, or of one address without a token; more are answered 429. A page that asks
    /// for all it shows at once has some tens.
    pub requests_per_principal_max: usize,
    /// Documents that are kept parsed, and can be asked for by their hash. A client has as many as it has views.
    pub documents_kept_max: usize,
    /// Bytes that they take, parsed: about 512 for each token.
    pub documents_kept_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes_max: 256 * 1024,
            document_tokens_max: 2_000,
            document_nesting_max: 48,
            selections_max: 2_000,
            depth_max: 20,
            complexity_max: 10_000,
            aliases_max: 50,
            root_fields_max: 20,
            directives_max: 50,
            execution_max: Duration::from_secs(40),
            requests_max: 1_024,
            requests_per_principal_max: 256,
            documents_kept_max: 1_000,
            documents_kept_bytes_max: 32 * 1_024 * 1_024,
        }
    }
}

/// Rows of a page when the query does not say.
pub const PAGE_DEFAULT: usize = 20;

/// The most rows of a page: `first` above it is refused, not cut, so that nobody takes a part for the whole.
pub const PAGE_MAX: usize = 100;
