//! What only the library can measure, as its checks go along: the complexity of a validated document.
//!
//! Its own bound would refuse without saying how much was asked for.

use std::sync::Arc;

use async_graphql::{
    Response, ServerError, ValidationResult,
    extensions::{Extension, ExtensionContext, ExtensionFactory, NextExecute, NextValidation},
};

use crate::errors::over_limit;

/// In a request's data: it is checked, and not run.
pub(crate) struct OnlyValidate;

/// Refuses what may answer too much.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) complexity_max: usize,
}

impl ExtensionFactory for Bounds {
    fn create(&self) -> Arc<dyn Extension> {
        Arc::new(*self)
    }
}

#[async_graphql::async_trait::async_trait]
impl Extension for Bounds {
    async fn validation(
        &self,
        ctx: &ExtensionContext<'_>,
        next: NextValidation<'_>,
    ) -> Result<ValidationResult, Vec<ServerError>> {
        let measured = next.run(ctx).await?;
        if measured.complexity > self.complexity_max {
            let what = "the query may answer too much";
            return Err(vec![over_limit("complexity", self.complexity_max, measured.complexity, what, None)]);
        }
        Ok(measured)
    }

    async fn execute(
        &self,
        ctx: &ExtensionContext<'_>,
        operation_name: Option<&str>,
        next: NextExecute<'_>,
    ) -> Response {
        if ctx.data_opt::<OnlyValidate>().is_some() {
            return Response::default();
        }
        next.run(ctx, operation_name).await
    }
}
