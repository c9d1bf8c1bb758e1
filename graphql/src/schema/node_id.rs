//! Global ids: base64url of `Order:<uuid>`, so that any thing can be asked for again through `node`.

use std::{fmt, str::FromStr};

use async_graphql::{Error, ID};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use uuid::Uuid;

use super::read::invalid;

/// What an id stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Order,
    Customer,
    Product,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Order, Self::Customer, Self::Product];

    fn as_str(self) -> &'static str {
        match self {
            Self::Order => "Order",
            Self::Customer => "Customer",
            Self::Product => "Product",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NodeId {
    pub(crate) kind: Kind,
    pub(crate) uuid: Uuid,
}

impl NodeId {
    /// The global id as it is answered.
    pub(super) fn of(kind: Kind, uuid: Uuid) -> ID {
        ID(Self { kind, uuid }.to_string())
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(format!("{}:{}", self.kind.as_str(), self.uuid)))
    }
}

/// The text is no global id of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a global id: pass on, unchanged, an id from an answer")]
pub(crate) struct NodeIdError;

impl FromStr for NodeId {
    type Err = NodeIdError;

    fn from_str(text: &str) -> Result<Self, NodeIdError> {
        // others may have padded it
        let bytes = URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).map_err(|_| NodeIdError)?;
        let text = String::from_utf8(bytes).map_err(|_| NodeIdError)?;
        let (kind, uuid) = text.split_once(':').ok_or(NodeIdError)?;
        let kind = Kind::ALL.into_iter().find(|each| each.as_str() == kind).ok_or(NodeIdError)?;
        Ok(Self { kind, uuid: Uuid::parse_str(uuid).map_err(|_| NodeIdError)? })
    }
}

/// The UUID that an argument means: written as such, or as the global id of a thing of this kind.
pub(super) fn id_of(kind: Kind, id: &ID, argument: &str) -> Result<Uuid, Error> {
    let kind_name = kind.as_str();
    if let Ok(uuid) = Uuid::parse_str(id) {
        return Ok(uuid);
    }
    match id.parse::<NodeId>() {
        Ok(node) if node.kind == kind => Ok(node.uuid),
        Ok(node) => Err(invalid(argument, format!("the global id of a {}, not of a {kind_name}", node.kind.as_str()))),
        Err(_) => Err(invalid(argument, format!("not a UUID, nor the global id of a {kind_name}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_global_id_is_base64url_of_kind_and_uuid() {
        let id = NodeId { kind: Kind::Order, uuid: Uuid::from_u128(7) };
        assert_eq!(id.to_string(), "T3JkZXI6MDAwMDAwMDAtMDAwMC0wMDAwLTAwMDAtMDAwMDAwMDAwMDA3");
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(format!("{id}==").parse(), Ok(id));
    }

    #[test]
    fn an_argument_takes_a_uuid_or_a_global_id_of_its_kind() {
        let uuid = Uuid::from_u128(7);
        assert_eq!(id_of(Kind::Order, &ID(uuid.to_string()), "id"), Ok(uuid));
        assert_eq!(id_of(Kind::Order, &NodeId::of(Kind::Order, uuid), "id"), Ok(uuid));
        for wrong in [NodeId::of(Kind::Customer, uuid), ID("".into()), ID("Order:7".into()), ID("ééé".into())] {
            assert!(id_of(Kind::Order, &wrong, "id").is_err(), "{wrong:?}");
        }
    }
}
