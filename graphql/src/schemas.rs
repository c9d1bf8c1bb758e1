//! Who answers: one schema checks a request to the letter, another answers it.
//!
//! A check costs more than most answers, and depends on the document and on the kinds of its variables alone. So a known
//! document is checked when it is first asked for, and again only with values that are not plainly of their types.

use std::{
    any::{Any, TypeId},
    sync::Arc,
};

use async_graphql::{Data, Executor, Request, Response, ServerError, Variables};
use futures::stream::BoxStream;

use crate::{bounds::OnlyValidate, documents::Known, schema::Schema};

/// What the library's own bound says, without how much was asked for.
const TOO_COMPLEX: &str = "Query is too complex.";

#[derive(Clone)]
pub(crate) struct Schemas {
    pub(crate) checking: Schema,
    pub(crate) answering: Schema,
}

impl Executor for Schemas {
    async fn execute(&self, request: Request) -> Response {
        let Some(known) = known(&request.data) else { return self.checking.execute(request).await };
        let (name, variables) = (request.operation_name.clone(), request.variables.clone());
        if !known.is_checked(name.as_deref(), &variables) {
            let errors = self.check(&known, name.clone(), variables.clone()).await;
            if !errors.is_empty() {
                return Response::from_errors(errors);
            }
            known.note_checked(name.as_deref(), &variables);
        }
        let answer = self.answering.execute(request).await;
        match answer.errors.first() {
            Some(error) if error.message == TOO_COMPLEX => {
                Response::from_errors(self.check(&known, name, variables).await)
            }
            _ => answer,
        }
    }

    fn execute_stream(&self, request: Request, session: Option<Arc<Data>>) -> BoxStream<'static, Response> {
        Executor::execute_stream(&self.checking, request, session)
    }
}

impl Schemas {
    /// What is wrong with it.
    async fn check(&self, known: &Known, name: Option<String>, variables: Variables) -> Vec<ServerError> {
        let mut request = Request::new("").variables(variables).data(OnlyValidate);
        request.operation_name = name;
        request.set_parsed_query(known.document.clone());
        self.checking.execute(request).await.errors
    }
}

fn known(data: &Data) -> Option<Arc<Known>> {
    let known: &(dyn Any + Send + Sync) = data.get(&TypeId::of::<Arc<Known>>())?.as_ref();
    known.downcast_ref::<Arc<Known>>().cloned()
}
