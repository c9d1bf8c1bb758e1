//! What `docker-compose.yml` says, with everything resolved that stands for something else.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::common::console::page;

/// How deep blocks that are taken over (`<<`) stand in each other.
const MERGES_MAX: usize = 4;

/// The whole file.
pub fn compose() -> Value {
    let mut compose: serde_yaml_ng::Value = serde_yaml_ng::from_str(&page("docker-compose.yml")).unwrap();
    for _ in 0..MERGES_MAX {
        compose.apply_merge().unwrap();
    }
    let compose = serde_json::to_value(compose).unwrap();
    assert!(!compose.to_string().contains("\"<<\""), "blocks stand deeper in each other than {MERGES_MAX}");
    compose
}

/// One of its services: a container.
#[derive(Clone)]
pub struct Container {
    pub name: String,
    pub says: Map<String, Value>,
}

/// All of them by name.
pub fn containers() -> BTreeMap<String, Container> {
    let compose = compose();
    let services = compose["services"].as_object().unwrap().clone();
    services
        .into_iter()
        .map(|(name, says)| {
            let Value::Object(says) = says else { panic!("{name} is no mapping") };
            (name.clone(), Container { name, says })
        })
        .collect()
}

impl Container {
    pub fn get(&self, name: &str) -> &Value {
        self.says.get(name).unwrap_or(&Value::Null)
    }

    /// Runs our image.
    pub fn is_ours(&self) -> bool {
        self.get("image").as_str().is_some_and(|image| image.starts_with("tributary:"))
    }

    /// A server of ours, and no command that ends.
    pub fn is_process(&self) -> bool {
        self.is_ours() && !self.ends_by_itself()
    }

    pub fn ends_by_itself(&self) -> bool {
        self.get("restart") == "no"
    }

    pub fn is_database(&self) -> bool {
        self.get("image").as_str().is_some_and(|image| image.starts_with("postgres:"))
    }

    /// Runs only with a profile.
    pub fn is_extra(&self) -> bool {
        self.get("profiles").is_array()
    }

    pub fn command(&self) -> Vec<String> {
        words(self.get("command"))
    }

    /// Without the word that says how it is run.
    pub fn health_check(&self) -> Vec<String> {
        let test = words(&self.get("healthcheck")["test"]);
        assert_eq!(test.first().map(String::as_str), Some("CMD"), "{}", self.name);
        test[1..].to_vec()
    }

    pub fn environment(&self) -> BTreeMap<String, String> {
        let set = self.get("environment").as_object().into_iter().flatten();
        set.map(|(name, value)| (name.clone(), value.as_str().expect("a text").to_owned())).collect()
    }

    /// Whom it waits for, and until when.
    pub fn waits_for(&self) -> BTreeMap<String, String> {
        let others = self.get("depends_on").as_object().into_iter().flatten();
        others.map(|(name, until)| (name.clone(), until["condition"].as_str().unwrap().to_owned())).collect()
    }

    /// Names in `/run/secrets`, and the secrets that are there.
    pub fn secrets(&self) -> BTreeMap<String, String> {
        let given = self.get("secrets").as_array().into_iter().flatten();
        let name = |secret: &Value, field: &str| secret[field].as_str().map(str::to_owned);
        given
            .map(|secret| match secret.as_str() {
                Some(same) => (same.to_owned(), same.to_owned()),
                None => (name(secret, "target").unwrap(), name(secret, "source").unwrap()),
            })
            .collect()
    }

    pub fn networks(&self) -> Vec<String> {
        words(self.get("networks"))
    }

    /// Where it may write and what is written stays.
    pub fn volumes(&self) -> Vec<(String, String)> {
        let mounted = words(self.get("volumes"));
        mounted.iter().map(|mount| mount.split_once(':').unwrap()).map(|(name, at)| (name.into(), at.into())).collect()
    }
}

fn words(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().map(|word| word.as_str().expect("a text").to_owned()).collect()
}

/// What the image sets: every `ENV` of the Dockerfile.
pub fn image_environment() -> BTreeMap<String, String> {
    let dockerfile = page("Dockerfile");
    let set = dockerfile.lines().filter_map(|line| line.strip_prefix("ENV ")).flat_map(str::split_whitespace);
    set.map(|pair| pair.split_once('=').unwrap()).map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}
