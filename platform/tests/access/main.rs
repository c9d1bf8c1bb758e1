//! Who sees what: every field of the schema, asked for on every way to it by everybody.
//!
//! The fields come from introspection, who may see them from [`expectations`]. Ana's things are asked for by Ana, by Eva,
//! by staff and by somebody without a token. To Eva they must look as if they were not there: every answer to her is
//! compared with the one to the same question about somebody whom there is not, or with what staff get who ask for
//! Eva's own, and none may hold a word that is Ana's alone.

#[path = "../common/mod.rs"]
mod common;
mod expectations;
mod live;
mod story;
mod walk;

use std::collections::BTreeSet;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use serde_json::Value;
use testkit::postgres;

use self::{
    expectations::{Ask, FIELDS, NOT_IN_THE_STORY, ROOTS, Root, SUBSCRIPTIONS, Sees},
    story::{ANAS_NAME, EVAS_NAME, Role, Story},
    walk::{INTROSPECTION, Question, Schema},
};
use crate::common::Home;

/// An answer as it is compared.
#[derive(Debug, PartialEq)]
struct Seen {
    data: Value,
    /// Codes and messages.
    errors: Vec<String>,
}

impl Seen {
    fn is_refused(&self) -> bool {
        self.errors.iter().any(|error| error.starts_with("not_for_customers"))
    }
}

struct Walk {
    story: Story,
    schema: Schema,
    /// `Type.field` of what staff saw a value of.
    seen: BTreeSet<String>,
    questions: usize,
}

impl Walk {
    /// An answer, and that it holds nothing that its reader must not know.
    async fn ask(&mut self, role: Role, document: &str) -> Seen {
        self.questions += 1;
        let (_, body) = self.story.ask(Some(role), document).await;
        if role == Role::Other {
            let bare = self.story.unnamed(document, &body);
            let leaked = self.story.secrets.iter().find(|secret| bare.contains(secret.as_str()));
            assert_eq!(leaked, None, "a stranger read it in the answer to {document}: {body}");
        }
        let answer: Value = serde_json::from_str(&body).unwrap_or_else(|error| panic!("{document}: {error}: {body}"));
        let error = |error: &Value| {
            let code = error["extensions"]["code"].as_str().unwrap_or_default();
            self.story.unnamed(document, &format!("{code}: {}", error["message"].as_str().unwrap_or_default()))
        };
        let errors = answer["errors"].as_array().into_iter().flatten().map(error).collect();
        Seen { data: answer["data"].clone(), errors }
    }

    async fn root(&mut self, root: &Root) {
        let query = self.schema.query.clone();
        for ask in root.asks {
            match ask {
                Ask::For { anas, nobodys, is } => {
                    let (anas, nobodys) = (self.named(anas), self.named(nobodys));
                    let about = self.schema.questions(&query, root.field, &anas, *is);
                    let about_nobody = self.schema.questions(&query, root.field, &nobodys, *is);
                    for (question, of_nobody) in about.iter().zip(&about_nobody) {
                        self.about_ana(root, question, of_nobody).await;
                    }
                }
                Ask::List { all, of_me } => {
                    for (role, me, my_name) in [(Role::Owner, "{ana}", ANAS_NAME), (Role::Other, "{eva}", EVAS_NAME)] {
                        let of_me = of_me.replace("{me}", me).replace("{my_name}", my_name);
                        let (all, of_me) = (self.named(all), self.named(&of_me));
                        let all = self.schema.questions(&query, root.field, &all, None);
                        let of_me = self.schema.questions(&query, root.field, &of_me, None);
                        for (question, cut) in all.iter().zip(&of_me) {
                            let theirs = self.ask(role, &question.document).await;
                            let by_staff = self.ask(Role::Staff, &cut.document).await;
                            assert_eq!(theirs, by_staff, "{role:?} asked {}", question.document);
                        }
                    }
                }
            }
        }
    }

    /// One question about what is Ana's, and the same about what nobody has.
    async fn about_ana(&mut self, root: &Root, question: &Question, of_nobody: &Question) {
        let document = &question.document;
        let staff = self.ask(Role::Staff, document).await;
        // an order as of a time has no timeline, and says so
        let is_as_of = document.contains("asOf:") && question.way.iter().any(|field| field == "Order.timeline");
        assert!(staff.errors.is_empty() || is_as_of, "staff asked {document}: {staff:?}");
        let owner = self.ask(Role::Owner, document).await;
        let other = self.ask(Role::Other, document).await;
        let way = question.way.iter().skip(1).map(|field| sees(field)).chain([root.sees]).max().expect("the root");
        let (mine, theirs) = (question.values(&owner.data), question.values(&other.data));
        for (n, (field, values)) in question.values(&staff.data).into_iter().enumerate() {
            if !values.is_empty() {
                self.seen.insert(field.clone());
                self.seen.extend(question.way.iter().cloned());
            }
            let who = if question.way.is_empty() { way } else { way.max(sees(&field)) };
            match who {
                Sees::Staff => assert!(mine[n].1.is_empty(), "a customer sees {field}: {document}"),
                Sees::Own | Sees::Everybody => {
                    assert_eq!(mine[n].1, values, "the owner does not see {field}: {document}: {owner:?}");
                }
            }
            match who {
                Sees::Staff | Sees::Own => {
                    assert!(theirs[n].1.iter().all(says_nothing), "a stranger sees {field}: {document}: {other:?}");
                }
                Sees::Everybody => assert_eq!(theirs[n].1, values, "a stranger does not see {field}: {document}"),
            }
        }
        if root.sees == Sees::Staff {
            assert!(owner.is_refused() && other.is_refused(), "{document}: {owner:?}, {other:?}");
        }
        if root.sees != Sees::Everybody {
            let nobodys = self.ask(Role::Other, &of_nobody.document).await;
            assert_eq!(other, nobodys, "a stranger can tell that it is there: {document}");
        }
        let (status, body) = self.story.ask(None, document).await;
        assert_eq!(status, 401, "{document}: {body}");
        let leaked =
            self.story.secrets.iter().find(|secret| self.story.unnamed(document, &body).contains(secret.as_str()));
        assert_eq!(leaked, None, "without a token: {body}");
    }

    /// Ids put in, global ids made: `{node:Order:..}`.
    fn named(&self, text: &str) -> String {
        let mut text = self.story.named(text);
        while let Some(start) = text.find("{node:") {
            let end = start + text[start..].find('}').expect("it is closed");
            let id = BASE64.encode(&text[start + "{node:".len()..end]);
            text.replace_range(start..=end, &id);
        }
        text
    }
}

/// As a list without anything in it does: that it has 0, and does not go on.
fn says_nothing(value: &&Value) -> bool {
    value.as_i64() == Some(0) || value.as_bool() == Some(false)
}

fn sees(field: &str) -> Sees {
    expectations::of_field(field).unwrap_or_else(|| panic!("say in expectations.rs who may see {field}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_sees_what_is_theirs_and_nobody_can_tell_what_else_there_is_on_sqlite() {
    walk(Home::sqlite()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_sees_what_is_theirs_and_nobody_can_tell_what_else_there_is_on_postgres() {
    walk(Home::postgres(postgres::shared().await).await).await;
}

async fn walk(home: Home) {
    let story = Story::told(home).await;
    let introspected = story.ask(Some(Role::Staff), INTROSPECTION).await.1;
    let introspected: Value = serde_json::from_str(&introspected).expect("JSON");
    let schema = Schema::of(&introspected["data"]);
    for field in schema.fields_of(&schema.query) {
        assert!(
            ROOTS.iter().any(|root| root.field == field),
            "say in expectations.rs who may see what {field} answers, and how to ask it"
        );
    }
    if let Some(subscription) = &schema.subscription {
        for field in schema.fields_of(subscription) {
            assert!(
                SUBSCRIPTIONS.iter().any(|one| one.field == field),
                "say in expectations.rs who is told by {field}, and how to ask it"
            );
        }
    }
    let fields = schema.fields();
    fields.iter().for_each(|field| _ = sees(field));
    for (of, _, listed) in FIELDS {
        let there = |field: &str| fields.contains(&format!("{of}.{field}"));
        let gone: Vec<&str> = listed.split(' ').filter(|field| !there(field)).collect();
        assert!(gone.is_empty(), "{of} has no {gone:?} any more");
    }
    let mut walk = Walk { story, schema, seen: BTreeSet::new(), questions: 0 };
    for root in ROOTS {
        walk.root(root).await;
    }
    walk.seen.extend(live::tells_everybody_of_their_own(&mut walk.story).await);
    let unseen: Vec<&String> = fields.iter().filter(|field| !walk.seen.contains(*field)).collect();
    let unexpected: Vec<_> = unseen.iter().filter(|field| !NOT_IN_THE_STORY.contains(&field.as_str())).collect();
    assert!(
        unexpected.is_empty(),
        "nobody saw a value of {unexpected:?}: have the story give one, or say that it cannot"
    );
    assert!(walk.questions > 300, "it went astray: {} questions", walk.questions);
}
