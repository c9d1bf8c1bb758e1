//! What subscribers are told: of their own, and nothing by which they could tell what else happens.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::{
    expectations::{SUBSCRIPTIONS, Sees},
    story::{Role, Story},
};

/// How long anything may take.
const WAIT_MAX: Duration = Duration::from_secs(20);

/// What is asked of a message about orders.
const MESSAGE: &str = "{ kind cursor orderId node { orderId externalRef customer { customerId name email } } }";

/// What a subscription is told, for as long as this lives.
pub struct Told {
    pub document: String,
    heard: Arc<Mutex<String>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Told {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Told {
    pub async fn follow(story: &Story, role: Role, field: &str, selection: &str) -> Self {
        let document = format!("subscription {{ {field} {selection} }}");
        let request = story.request(Some(role)).header("accept", "text/event-stream");
        let mut answer = request.json(&json!({ "query": document })).send().await.expect("an answer");
        assert_eq!(answer.status().as_u16(), 200, "{document}");
        let heard: Arc<Mutex<String>> = Arc::default();
        let hears = Arc::clone(&heard);
        let task = tokio::spawn(async move {
            while let Ok(Some(chunk)) = answer.chunk().await {
                hears.lock().await.push_str(&String::from_utf8_lossy(&chunk));
            }
        });
        Self { document, heard, task }
    }

    /// Everything, as it came.
    pub async fn text(&self) -> String {
        self.heard.lock().await.clone()
    }

    /// The messages so far.
    pub async fn messages(&self) -> Vec<Value> {
        let text = self.text().await;
        // what comes in parts is there once its line has ended
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let data = whole.lines().filter_map(|line| line.strip_prefix("data:")).map(str::trim);
        // the end of a stream has none
        let data = data.filter(|json| !json.is_empty());
        data.map(|json| serde_json::from_str(json).expect("JSON")).collect()
    }

    /// Waits for a message about which something is so.
    pub async fn until(&self, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        let found = tokio::time::timeout(WAIT_MAX, async {
            loop {
                if let Some(found) = self.messages().await.into_iter().find(&is) {
                    return found;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        match found.await {
            Ok(found) => found,
            Err(_) => panic!("{}: not {what}: {}", self.document, self.text().await),
        }
    }
}

/// The one field of a message's data.
fn told(message: &Value) -> &Value {
    message["data"].as_object().and_then(|data| data.values().next()).unwrap_or(&Value::Null)
}

fn has_begun(message: &Value) -> bool {
    told(message)["kind"] == "STARTED"
}

/// What happened, without the place in the stream of it.
async fn kinds(of: &Told) -> Vec<Value> {
    of.messages().await.iter().map(|message| json!([told(message)["kind"], message.get("errors")])).collect()
}

fn is_of(customer: &str) -> impl Fn(&Value) -> bool {
    move |message| told(message)["node"]["customer"]["name"] == customer
}

/// Ana's and Eva's names change, which every order of theirs tells. Gives the fields of messages that staff saw a value of.
pub async fn tells_everybody_of_their_own(story: &mut Story) -> BTreeSet<String> {
    for one in SUBSCRIPTIONS.iter().filter(|one| one.sees == Sees::Staff) {
        let field = story.named(&format!("{}{}", one.field, one.anas));
        for role in [Role::Owner, Role::Other] {
            let refused = Told::follow(story, role, &field, "{ __typename }").await;
            refused.until("refused", |message| message["errors"][0]["extensions"]["code"] == "not_for_customers").await;
        }
        Told::follow(story, Role::Staff, &field, "{ __typename }")
            .await
            .until("told", |message| message["data"].is_object())
            .await;
    }
    let mut followed = Vec::new();
    for one in SUBSCRIPTIONS.iter().filter(|one| one.sees == Sees::Own) {
        let field = |arguments: &str| story.named(&format!("{}{arguments}", one.field));
        let (anas, nobodys) = (field(one.anas), field(one.nobodys));
        followed.push((
            Told::follow(story, Role::Staff, &anas, MESSAGE).await,
            Told::follow(story, Role::Owner, &anas, MESSAGE).await,
            Told::follow(story, Role::Other, &anas, MESSAGE).await,
            Told::follow(story, Role::Other, &nobodys, MESSAGE).await,
        ));
    }
    let evas = Told::follow(story, Role::Other, "ordersChanged", MESSAGE).await;
    let began = evas.until("begun", has_begun).await;
    for (staff, owner, other, nobodys) in &followed {
        for one in [staff, owner, other, nobodys] {
            one.until("begun", has_begun).await;
        }
    }

    story.rename("ana", "Ana Huitzilopochtli").await;
    for (staff, owner, ..) in &followed {
        for one in [staff, owner] {
            one.until("told of her new name", is_of("Ana Huitzilopochtli")).await;
        }
    }
    // behind hers: whoever hears of this one would have heard of that one
    story.rename("eva", "Eva Tlazolteotl").await;
    evas.until("told of her new name", is_of("Eva Tlazolteotl")).await;
    // who comes back hears of what happened meanwhile, and of nothing else
    let back = format!("ordersChanged(after: {})", told(&began)["cursor"]);
    let back = Told::follow(story, Role::Other, &back, MESSAGE).await;
    back.until("told of her new name", is_of("Eva Tlazolteotl")).await;
    tokio::time::sleep(Duration::from_millis(300)).await;

    let (ana, secrets) = ("Ana Huitzilopochtli".to_owned(), story.secrets.clone());
    for stranger in followed.iter().map(|(_, _, other, _)| other).chain([&evas, &back]) {
        let text = story.unnamed(&stranger.document, &stranger.text().await);
        let leaked = secrets.iter().chain([&ana]).find(|secret| text.contains(secret.as_str()));
        assert_eq!(leaked, None, "a stranger was told by {}: {text}", stranger.document);
    }
    for (_, _, other, nobodys) in &followed {
        assert_eq!(kinds(other).await, kinds(nobodys).await, "a stranger can tell: {}", other.document);
    }
    for one in SUBSCRIPTIONS {
        let field = story.named(&format!("{}{}", one.field, one.anas));
        let request = story.request(None).header("accept", "text/event-stream");
        let document = format!("subscription {{ {field} {{ __typename }} }}");
        let answer = request.json(&json!({ "query": document })).send().await.expect("an answer");
        assert_eq!(answer.status().as_u16(), 401, "{document}");
    }
    let mut seen = BTreeSet::new();
    for (staff, ..) in &followed {
        for message in staff.messages().await {
            let fields = told(&message).as_object().into_iter().flatten().filter(|(_, value)| !value.is_null());
            seen.extend(fields.map(|(field, _)| format!("OrderChange.{field}")));
        }
    }
    seen
}
