//! `docs/deploying.md` as it is written, on what `docker-compose.yml` starts.

use std::{collections::BTreeMap, fs};

use chrono::{DateTime, Utc};
use futures::future::join_all;
use serde_json::json;
use sqlx::{Connection, PgConnection, PgPool};

use crate::{
    common::{
        binary,
        console::{assert_prints, page, shell, steps},
        databases,
    },
    compose::containers,
    local::Deployment,
    prometheus_targets,
};

/// What stands for Docker: everything is up, and a command in a container is one of ours.
const DOCKER: &str = r#"docker() { case "$2 $4" in "exec tributary") shift 4; "$TRIBUTARY_BIN" "$@" ;; "up --wait") ;; *) return 64 ;; esac; }"#;

/// Of the demo data.
const CUSTOMER: &str = "0ca86841-aa0d-500b-8b03-6344a4e3eef8";
const PRODUCT: &str = "c2c4b5bc-9606-5430-907e-ec8168adcb34";

#[tokio::test(flavor = "multi_thread")]
async fn what_is_deployed_takes_an_order_with_logins_that_own_nothing() {
    let mut deployment = Deployment::new().await;
    deployment.up().await;
    the_page_is_true(&deployment).await;
    each_process_has_logged_in_to_its_own_database_as_its_own_role(&deployment).await;
    monitoring_reads_everybody_and_nobody_else_does(&deployment).await;
    whoever_starts_again_migrates_nothing(&deployment).await;
    a_password_is_replaced_while_everything_runs(&deployment).await;
    let ended = join_all(deployment.processes.into_iter().map(async |(name, one)| (name, one.terminate().await))).await;
    let ended: BTreeMap<String, Option<i32>> = ended.into_iter().collect();
    assert!(ended.values().all(|code| *code == Some(0)), "{ended:?}");
}

async fn the_page_is_true(deployment: &Deployment) {
    let url = &deployment.gateway().url;
    let mut said = format!(
        "set -eo pipefail\nexport TRIBUTARY_URL={url}\nexport TRIBUTARY_BIN={}\n{DOCKER}\n",
        binary().display()
    );
    let steps = steps(&page("docs/deploying.md"));
    assert!(steps.len() >= 7, "the page has lost its commands: {steps:?}");
    for step in steps {
        let command = step.command.replace("http://127.0.0.1:8080", url);
        if command.contains("=$(") {
            // a variable that later commands use
            said.push_str(&command);
            said.push('\n');
            continue;
        }
        let printed = shell(&format!("{said}{command}"), deployment.folder()).await;
        assert_prints(&step, &printed);
    }
}

async fn each_process_has_logged_in_to_its_own_database_as_its_own_role(deployment: &Deployment) {
    let containers = containers();
    for name in databases() {
        let url = deployment.superuser_url(&containers[&format!("{name}-db")], "postgres");
        let mut superuser = PgConnection::connect(&url).await.unwrap();
        let who = "select distinct datname || ' ' || usename from pg_stat_activity \
            where backend_type = 'client backend' and usename <> current_user order by 1";
        let who: Vec<String> = sqlx::query_scalar(who).fetch_all(&mut superuser).await.unwrap();
        let expected = match name {
            "query" => {
                vec!["tributary_query tributary_graphql_a".into(), "tributary_query tributary_projector_a".into()]
            }
            service => vec![format!("tributary_{service} tributary_{service}_a")],
        };
        assert_eq!(who, expected);
    }
}

async fn monitoring_reads_everybody_and_nobody_else_does(deployment: &Deployment) {
    let token = deployment.secret(&containers()["prometheus"], "token");
    for target in prometheus_targets() {
        let process = &deployment.processes[&target];
        let asked = process.http.get(format!("{}/metrics", process.url));
        let refused = asked.try_clone().unwrap().send().await.unwrap();
        assert_eq!(refused.status().as_u16(), 401, "{target}");
        let read = asked.bearer_auth(&token).send().await.unwrap();
        assert_eq!(read.status().as_u16(), 200, "{target}");
        assert!(read.text().await.unwrap().contains("tributary_build_info"), "{target}");
    }
}

async fn whoever_starts_again_migrates_nothing(deployment: &Deployment) {
    let containers = containers();
    let again = containers.values().filter(|one| one.ends_by_itself()).map(|one| deployment.run_to_end(one));
    assert_eq!(join_all(again).await, vec!["nothing to do\n"; databases().count()]);
}

async fn a_password_is_replaced_while_everything_runs(deployment: &Deployment) {
    let containers = containers();
    let superuser = PgPool::connect(&deployment.superuser_url(&containers["orders-db"], "postgres")).await.unwrap();
    let before: DateTime<Utc> = sqlx::query_scalar("select clock_timestamp()").fetch_one(&superuser).await.unwrap();
    fs::write(deployment.folder().join("deploy/secrets/tributary_orders_a"), "another password").unwrap();
    let told = deployment.run_to_end(&containers["orders-migrate"]).await;
    assert!(told.contains("tributary_orders_a") && !told.contains("another password"), "{told}");

    let token = shell("deploy/make-token desk orders:write", deployment.folder()).await;
    let gateway = deployment.gateway();
    let order = json!({ "customer_id": CUSTOMER, "lines": [{ "product_id": PRODUCT, "quantity": 1 }] });
    let place = async || {
        let placing = gateway.http.post(format!("{}/orders", gateway.url)).bearer_auth(token.trim()).json(&order);
        placing.send().await.unwrap().status().as_u16() == 201
    };
    let since = "select count(*) from pg_stat_activity where usename = 'tributary_orders_a' and backend_start > $1";
    let count = async || sqlx::query_scalar::<_, i64>(since).bind(before).fetch_one(&superuser).await.unwrap();
    gateway.until("taken by who has logged in since", async || place().await && count().await > 0).await;
}
