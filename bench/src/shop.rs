//! Customers and products of a running platform, and orders of them.

use anyhow::{Context, bail};
use reqwest::{Client, RequestBuilder, Response};
use serde_json::json;
use uuid::Uuid;

/// Customers and products that orders name.
const REFERENCES: usize = 20;

pub const TOKEN: &str = "Consistency-Token";

pub struct Shop {
    pub client: Client,
    url: String,
    /// Where orders are placed, and read.
    orders: String,
    pub graphql: String,
    customers: Vec<Uuid>,
    products: Vec<Uuid>,
    /// Makes the references visible to the orders service.
    token: String,
}

impl Shop {
    /// Registers customers and adds products. So many connections are kept.
    pub async fn open(url: &str, connections: usize) -> anyhow::Result<Self> {
        Self::open_for(url, connections, REFERENCES).await
    }

    /// The same with so many customers.
    pub async fn open_for(url: &str, connections: usize, customers_max: usize) -> anyhow::Result<Self> {
        let client = Client::builder().pool_max_idle_per_host(connections).build().context("an HTTP client")?;
        let (mut customers, mut products) = (Vec::new(), Vec::new());
        let (mut user_token, mut product_token) = (String::new(), String::new());
        for n in 0..customers_max {
            let customer = Uuid::now_v7();
            let email = format!("{customer}@example.com");
            let user = json!({"id": customer, "name": format!("Customer {n}"), "email": email});
            user_token = token(&created(client.post(format!("{url}/users")).json(&user)).await?)?;
            customers.push(customer);
        }
        for n in 0..REFERENCES {
            let product = Uuid::now_v7();
            let price = json!({"amount_minor": 1_250, "currency": "EUR"});
            let body = json!({"id": product, "sku": product, "name": format!("Product {n}"), "unit_price": price});
            product_token = token(&created(client.post(format!("{url}/products")).json(&body)).await?)?;
            products.push(product);
        }
        let token = format!("{user_token},{product_token}");
        let [url, orders, graphql] = [url, url, url].map(str::to_owned);
        Ok(Self { client, url, orders, graphql, customers, products, token })
    }

    /// The same customers and products, where orders are placed and read in processes of their own.
    pub fn apart(&self, orders: &str, graphql: &str) -> Self {
        let Self { client, url, customers, products, token, .. } = self;
        Self {
            client: client.clone(),
            url: url.clone(),
            orders: orders.to_owned(),
            graphql: graphql.to_owned(),
            customers: customers.clone(),
            products: products.clone(),
            token: token.clone(),
        }
    }

    pub fn customer(&self, n: usize) -> Uuid {
        self.customers[n % self.customers.len()]
    }

    /// So many pieces of each product.
    pub async fn stock_up(&self, quantity: u32) -> anyhow::Result<()> {
        for product in &self.products {
            let receive = self.client.post(format!("{}/stock/{product}/receive", self.url));
            created(receive.json(&json!({"quantity": quantity}))).await?;
        }
        Ok(())
    }

    /// Enters the nth order as one that ended elsewhere: nobody reacts to it. Gives its id and the answer.
    pub async fn import(&self, n: usize) -> anyhow::Result<(Uuid, Response)> {
        let Self { client, orders, customers, products, token, .. } = self;
        let order_id = Uuid::now_v7();
        let line = |product: Uuid, quantity: u32, discount_bp: u16| {
            json!({"product_id": product, "product_name": "Product", "quantity": quantity, "discount_bp": discount_bp,
                "unit_price": {"amount_minor": 1_250, "currency": "EUR"}})
        };
        let lines = [line(products[n % products.len()], 2, 0), line(products[(n + 1) % products.len()], 1, 500)];
        let body = json!({"id": order_id, "customer_id": customers[n % customers.len()], "lines": lines,
            "status": "DELIVERED", "placed_at": "2026-01-02T03:04:05Z", "external_ref": order_id});
        let import = client.post(format!("{orders}/orders/import")).header(TOKEN, token).json(&body);
        Ok((order_id, created(import).await?))
    }

    /// Places the nth order, of two lines; gives its id and the answer.
    pub async fn order(&self, n: usize) -> anyhow::Result<(Uuid, Response)> {
        let Self { client, orders, customers, products, token, .. } = self;
        let order_id = Uuid::now_v7();
        let lines = json!([
            {"product_id": products[n % products.len()], "quantity": 2},
            {"product_id": products[(n + 1) % products.len()], "quantity": 1, "discount_bp": 500},
        ]);
        let body = json!({"id": order_id, "customer_id": customers[n % customers.len()], "lines": lines});
        let answer = created(client.post(format!("{orders}/orders")).header(TOKEN, token).json(&body)).await?;
        Ok((order_id, answer))
    }
}

async fn created(request: RequestBuilder) -> anyhow::Result<Response> {
    let answer =
        request.header("Idempotency-Key", Uuid::now_v7().to_string()).send().await.context("send a command")?;
    if answer.status().is_success() {
        return Ok(answer);
    }
    let (status, url) = (answer.status(), answer.url().clone());
    bail!("POST {url} was answered {status}: {}", answer.text().await.unwrap_or_default())
}

pub fn token(answer: &Response) -> anyhow::Result<String> {
    let token = answer.headers().get(TOKEN).with_context(|| format!("no {TOKEN} in the answer"))?;
    Ok(token.to_str().context("a token is text")?.to_owned())
}
