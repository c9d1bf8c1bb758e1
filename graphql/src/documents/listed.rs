//! Documents that an operator has listed in a file: always known by their hash, and in strict mode the only ones that are
//! answered.
//!
//! The file is JSON, in one of the two forms that the tools of clients write:
//! - `{"<SHA-256 in hex>": "<text>", ...}` (Relay's and GraphQL Code Generator's persisted documents, with SHA-256);
//! - `{"format": "apollo-persisted-query-manifest", "version": 1, "operations": [{"id": .., "body": ..}, ...]}`.
//!
//! All of it is checked when it is loaded: who lists a document that this endpoint would refuse finds out at the start, not
//! when the first client asks.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use async_graphql::{Name, Request, parser::types::OperationType};
use serde::Deserialize;
use thiserror::Error;

use super::{Hash, Known, shortened};
use crate::{bounds::OnlyValidate, http::operation::one_root_field, options::GraphqlOptions, schema};

/// The largest file that is read: some ten thousand documents. More would be somebody's mistake.
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// The listed documents of one endpoint. Cheap to clone; none by default.
#[derive(Debug, Clone, Default)]
pub struct Listed {
    documents: Arc<HashMap<Hash, Arc<Known>>>,
    strict: bool,
}

/// A list that cannot be used.
#[derive(Debug, Error)]
pub enum ListError {
    #[error("read the list of operations {}", .path.display())]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("the list of operations {} has {bytes} bytes, more than {FILE_BYTES_MAX}", .path.display())]
    TooLarge { path: PathBuf, bytes: u64 },
    #[error(
        "the list of operations {} is neither an object of texts by their SHA-256 nor a manifest: {reason}", .path.display()
    )]
    Form { path: PathBuf, reason: String },
    #[error("the list of operations {} has {found} under the key {key}, but that text's SHA-256 is {hash}", .path.display())]
    Key { path: PathBuf, key: String, found: String, hash: Hash },
    #[error("the list of operations {} has a document that is not answered here, {hash} ({text}): {reason}", .path.display())]
    Refused { path: PathBuf, hash: Hash, text: String, reason: String },
    #[error("the list of operations {} is empty: in strict mode nothing would be answered", .path.display())]
    Empty { path: PathBuf },
}

#[derive(Deserialize)]
struct Manifest {
    version: u64,
    operations: Vec<ManifestOperation>,
}

#[derive(Deserialize)]
struct ManifestOperation {
    id: String,
    body: String,
}

impl Listed {
    /// Reads and checks a list. `strict`: no other document is answered.
    ///
    /// Errors: the first thing that is wrong, with the document that has it.
    pub async fn load(path: &Path, strict: bool, options: &GraphqlOptions) -> Result<Self, ListError> {
        let unreadable = |source| ListError::Unreadable { path: path.to_owned(), source };
        let bytes = tokio::fs::metadata(path).await.map_err(unreadable)?.len();
        if bytes > FILE_BYTES_MAX {
            return Err(ListError::TooLarge { path: path.to_owned(), bytes });
        }
        let text = tokio::fs::read_to_string(path).await.map_err(unreadable)?;
        let schema = schema::checking(options).finish();
        let mut documents = HashMap::new();
        for (key, text) in entries(path, &text)? {
            let hash = Hash::of(&text);
            // some tools write the name of the hash before it
            if Hash::from_hex(key.strip_prefix("sha256:").unwrap_or(&key)) != Some(hash) {
                return Err(ListError::Key { path: path.to_owned(), key, found: shortened(&text), hash });
            }
            let refused = |reason| ListError::Refused { path: path.to_owned(), hash, text: shortened(&text), reason };
            let known = Known::of(&text, &options.limits).map_err(|error| refused(error.message))?;
            for (name, operation) in known.document.operations.iter() {
                if operation.node.ty == OperationType::Subscription {
                    let one = one_root_field(&mut known.document.clone(), name.map(Name::as_str));
                    one.map_err(|error| refused(error.message))?;
                }
                let mut request = Request::new(text.as_str()).data(OnlyValidate);
                request.operation_name = name.map(ToString::to_string);
                let answer = schema.execute(request).await;
                if let Some(error) = answer.errors.into_iter().next() {
                    return Err(refused(error.message));
                }
            }
            documents.insert(hash, Arc::new(known));
        }
        if strict && documents.is_empty() {
            return Err(ListError::Empty { path: path.to_owned() });
        }
        Ok(Self { documents: Arc::new(documents), strict })
    }

    pub fn is_strict(&self) -> bool {
        self.strict
    }

    /// How many documents are listed.
    pub fn len(&self) -> usize {
        self.documents.len()
    }

    pub fn is_empty(&self) -> bool {
        self.documents.is_empty()
    }

    pub(super) fn get(&self, hash: &Hash) -> Option<&Arc<Known>> {
        self.documents.get(hash)
    }
}

/// Keys and texts, whichever form they are written in.
fn entries(path: &Path, text: &str) -> Result<Vec<(String, String)>, ListError> {
    let form = |reason: String| ListError::Form { path: path.to_owned(), reason };
    let json: serde_json::Value = serde_json::from_str(text).map_err(|error| form(error.to_string()))?;
    if json.get("operations").is_some_and(serde_json::Value::is_array) {
        let manifest: Manifest = serde_json::from_value(json).map_err(|error| form(error.to_string()))?;
        if manifest.version != 1 {
            return Err(form(format!("version {} of the manifest is not known", manifest.version)));
        }
        return Ok(manifest.operations.into_iter().map(|each| (each.id, each.body)).collect());
    }
    let texts: std::collections::BTreeMap<String, String> =
        serde_json::from_value(json).map_err(|error| form(error.to_string()))?;
    Ok(texts.into_iter().collect())
}
