//! Events that cannot be folded, as operators meet them: seen, tried again, left out by a decision that is kept.

mod common;

use common::{Home, Platform, text, tributary};
use event_store::{log::Decision, sqlite::SqliteLog};
use events::envelope::StreamId;
use serde_json::{Value, json};
use testkit::log_contract::harness::{append, commit_one, event};

const CUSTOMER: &str = "11111111-1111-4111-8111-111111111111";
const PRODUCT: &str = "22222222-2222-4222-8222-222222222222";

/// The command line: exit code, and what it said.
async fn says(platform: &Platform, arguments: &[&str]) -> (Option<i32>, String) {
    let done = tributary(&[&["projection", "parked"], arguments, &["--url", &platform.url]].concat()).await;
    (done.status.code(), text(&done))
}

/// The same for a program.
async fn json(platform: &Platform, arguments: &[&str]) -> Value {
    let all = [&["-o", "json", "projection", "parked"], arguments, &["--url", &platform.url]].concat();
    let done = tributary(&all).await;
    serde_json::from_slice(&done.stdout).unwrap_or_else(|_| panic!("{arguments:?}: {}", text(&done)))
}

/// Writes what no release of ours would, and a good event behind it: the product's third and fourth.
async fn write_what_cannot_be_read(home: &Home) {
    let log = SqliteLog::open(&home.dir().join("catalog.db"), "catalog", Default::default()).expect("nothing runs");
    let stream = StreamId::new("product", PRODUCT);
    for (version, payload) in [
        (1, json!({ "type": "ProductRenamed", "nobody": "knows" })),
        (2, json!({ "type": "ProductRenamed", "product_id": PRODUCT, "name": "Green tea" })),
    ] {
        let mut item = append(&stream, version);
        let mut written = event("");
        written.event_type = "ProductRenamed".into();
        written.payload = payload.to_string();
        written.metadata = "{}".to_owned();
        item.decision = Decision::Append(vec![written]);
        commit_one(&*log, item).await;
    }
}

async fn product_name(platform: &Platform, order: &str) -> Value {
    let query = format!("{{ order(id: \"{order}\") {{ lines {{ product {{ name }} }} }} }}");
    platform.query(&query, "").await["order"]["lines"][0]["product"]["name"].clone()
}

async fn parked_streams(platform: &Platform) -> Vec<Value> {
    let (status, list) = platform.get("/admin/parked").await;
    assert_eq!(status, 200, "{list}");
    list["groups"].as_array().expect("groups").clone()
}

#[tokio::test]
async fn what_cannot_be_folded_is_seen_tried_again_and_left_out() {
    let home = Home::sqlite();
    let platform = Platform::up(&home).await;
    let user = json!({ "id": CUSTOMER, "name": "Ada Lovelace", "email": "ada@example.com" });
    let price = json!({ "amount_minor": 1_250, "currency": "EUR" });
    let product = json!({ "id": PRODUCT, "sku": "TEA-1", "name": "Tea", "unit_price": price });
    let users = platform.command("/users", "u", "", user).await.token;
    let products = platform.command("/products", "p", "", product).await.token;
    let order = json!({ "customer_id": CUSTOMER, "lines": [{ "product_id": PRODUCT, "quantity": 2 }] });
    let placed = platform.command("/orders", "o", &format!("{users},{products}"), order).await;
    let order = placed.body["id"].as_str().expect("an order has an id").to_owned();
    assert!(parked_streams(&platform).await.is_empty());
    let (code, said) = says(&platform, &["retry"]).await;
    assert_eq!((code, said.trim()), (Some(0), "Nothing of that is parked."));
    platform.terminate().await;

    write_what_cannot_be_read(&home).await;
    let platform = Platform::up(&home).await;
    platform.until("parked", async || !parked_streams(&platform).await.is_empty()).await;
    it_is_seen(&platform).await;
    assert_eq!(product_name(&platform, &order).await, "Tea");

    let shown = json(&platform, &["show", PRODUCT]).await;
    let event = shown[0]["events"][0]["event_id"].as_str().expect("an event waits").to_owned();
    what_cannot_be_done_is_said(&platform, &event).await;
    for arguments in [&["retry", "--dry-run"][..], &["retry", "--stream", PRODUCT]] {
        let (code, said) = says(&platform, arguments).await;
        assert!(code == Some(2) && said.contains("missing field"), "{said}");
    }

    let (code, said) = says(&platform, &["drop", &event, "--why", "written by a test"]).await;
    assert!(code == Some(0) && said.contains(PRODUCT), "{said}");
    assert_eq!(product_name(&platform, &order).await, "Green tea");
    assert!(parked_streams(&platform).await.is_empty());
    let (code, said) = says(&platform, &["drop", &event, "--why", "twice"]).await;
    assert!(code == Some(0) && said.contains("was left out already"), "{said}");
    let (_, said) = says(&platform, &["ls"]).await;
    assert!(said.contains("left out by decision: --dropped lists them"), "{said}");

    // and over a rebuild and a restart
    let done = tributary(&["projection", "rebuild", "order_details", "--url", &platform.url]).await;
    assert!(done.status.success(), "{}", text(&done));
    platform.terminate().await;
    let platform = Platform::up(&home).await;
    assert_eq!(product_name(&platform, &order).await, "Green tea");
    let (_, said) = says(&platform, &["ls", "--dropped"]).await;
    assert!(said.contains(&event) && said.contains("written by a test"), "{said}");
    let dropped = &json(&platform, &["ls", "--projection", "order_details"]).await["dropped"];
    assert_eq!(dropped.as_array().map(Vec::len), Some(1), "{dropped}");
}

async fn it_is_seen(platform: &Platform) {
    let groups = parked_streams(platform).await;
    let group = groups.iter().find(|group| group["projection"] == "order_details").expect("order_details is parked");
    assert_eq!((&group["source"], &group["streams"], &group["events"]), (&json!("catalog"), &json!(1), &json!(2)));
    assert_eq!((&group["event_type"], &group["event_version"]), (&json!("ProductRenamed"), &json!("1")));
    let (code, said) = says(platform, &["ls"]).await;
    let fingerprint = group["fingerprint"].as_str().expect("a fingerprint");
    assert!(code == Some(0) && said.contains(fingerprint) && said.contains(PRODUCT), "{said}");
    let alike = &json(platform, &["ls", "--fingerprint", fingerprint]).await["groups"];
    assert_eq!(alike.as_array().map(Vec::len), Some(groups.len()), "{alike}");
    assert_eq!(json(platform, &["ls", "--fingerprint", "other"]).await["groups"], json!([]));

    let (code, said) = says(platform, &["show", &format!("product-{PRODUCT}")]).await;
    for part in ["ProductRenamed v1", fingerprint, "2 events", "parked retry --stream", "parked drop"] {
        assert!(code == Some(0) && said.contains(part), "{part} in {said}");
    }
    let status = tributary(&["-o", "json", "projection", "status", "order_details", "--url", &platform.url]).await;
    let status: Value = serde_json::from_slice(&status.stdout).expect("JSON");
    let sources = status[0]["sources"].as_array().expect("sources");
    let catalog = sources.iter().find(|source| source["source"] == "catalog").expect("it follows catalog");
    assert_eq!(catalog["parked"], 2);
    let metrics = platform.http.get(format!("{}/metrics", platform.url)).send().await.expect("an answer");
    let metrics = metrics.text().await.expect("a page");
    let counted = "tributary_projection_parked_events{projection=\"order_details\",source=\"catalog\"} 2";
    assert!(metrics.contains(counted), "{metrics}");
    let doctor = tributary(&["doctor", "--url", &platform.url]).await;
    assert!(text(&doctor).contains("`tributary projection parked ls` tells why"), "{}", text(&doctor));
}

async fn what_cannot_be_done_is_said(platform: &Platform, event: &str) {
    for (arguments, part) in [
        (&["show", CUSTOMER][..], "not_parked"),
        (&["drop", CUSTOMER, "--why", "no such event"], "not_parked"),
        (&["drop", event, "--why", " "], "--why is empty"),
        (&["retry", "--projection", "nothing"], "projection_not_found"),
        (&["drop", "nothing", "--why", "?"], "invalid value"),
    ] {
        let (code, said) = says(platform, arguments).await;
        assert!(code != Some(0) && said.contains(part), "{arguments:?}: {said}");
    }
    let (status, problem) = platform.get("/admin/parked?stream=a&nothing=b").await;
    assert_eq!((status, &problem["code"]), (400, &json!("invalid_address")));
    for (path, body, pointer) in [
        ("/admin/parked/drop", json!({ "event_id": event, "why": "  " }), "/why"),
        ("/admin/parked/drop", json!({ "event_id": event, "why": "x".repeat(501) }), "/why"),
        ("/admin/parked/drop", json!({ "event_id": "none", "why": "x" }), ""),
    ] {
        let answer = platform.http.post(format!("{}{path}", platform.url)).json(&body).send().await.expect("an answer");
        assert_eq!(answer.status().as_u16(), 422);
        let problem: Value = answer.json().await.expect("a problem");
        assert_eq!(
            (&problem["code"], &problem["errors"][0]["pointer"]),
            (&json!("validation_failed"), &json!(pointer))
        );
    }
}
