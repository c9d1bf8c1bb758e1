//! `docs/deploying.md` as it is written, on what `docker-compose.yml` starts.

use std::collections::BTreeMap;

use futures::future::join_all;
use sqlx::{Connection, PgConnection};

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

#[tokio::test(flavor = "multi_thread")]
async fn what_is_deployed_takes_an_order_with_logins_that_own_nothing() {
    let mut deployment = Deployment::new().await;
    deployment.up().await;
    the_page_is_true(&deployment).await;
    each_process_has_logged_in_to_its_own_database_as_its_own_role(&deployment).await;
    monitoring_reads_everybody_and_nobody_else_does(&deployment).await;
    whoever_starts_again_migrates_nothing(&deployment).await;
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
