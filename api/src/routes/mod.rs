//! The routes, and who may call them.

mod features;
mod pages;
mod policies;
mod recommend;
mod service;
mod users;

use axum::{Extension, Router, extract::FromRef, middleware};
use ingest::auth::{Gate, Scope};
use tower_http::catch_panic::CatchPanicLayer;
use utoipa::{
    Modify, OpenApi,
    openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme},
};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{ApiError, AppState, observe, state::Service};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Kairos",
        description = "Signals in, fresh features, one well-timed tip out. Errors are \
                       `{\"error\": {\"code\", \"message\"}}`; every answer carries `x-request-id`.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    modifiers(&Keys),
    tags(
        (name = "signals", description = "Facts about people, coming in"),
        (name = "features", description = "Windowed values of each person, now and at any instant"),
        (name = "tips", description = "The next tip, the reaction to it, and why it was shown"),
        (name = "policies", description = "Which policy chooses, and which shall"),
        (name = "users", description = "What is kept about a person"),
        (name = "service", description = "How the service is"),
        (name = "pages", description = "For people"),
    )
)]
struct Document;

struct Keys;

impl Modify for Keys {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let bearer = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some("An API key. A server without keys answers on its own machine only."))
            .build();
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("key", SecurityScheme::Http(bearer));
        document.security = Some(vec![SecurityRequirement::new("key", Vec::<String>::new())]);
    }
}

/// The document of every route, as it is served.
#[derive(Clone)]
struct OpenApiText(bytes::Bytes);

/// The whole surface: these routes behind `gate`, together with those of `ingestion`
/// (`ingest::http::router`), which bring their own gate.
pub fn router(state: AppState, gate: &Gate, ingestion: OpenApiRouter) -> Router {
    let open = OpenApiRouter::new()
        .routes(routes!(pages::index))
        .routes(routes!(pages::file))
        .routes(routes!(service::healthz))
        .routes(routes!(service::readyz))
        .routes(routes!(service::metrics))
        .routes(routes!(service::openapi));
    let read = OpenApiRouter::new()
        .routes(routes!(features::read))
        .routes(routes!(features::registry))
        .routes(routes!(recommend::explain))
        .routes(routes!(policies::list))
        .route_layer(gate.require(Scope::Read));
    let recommend = OpenApiRouter::new()
        .routes(routes!(recommend::recommend))
        .routes(routes!(recommend::feedback))
        .route_layer(gate.require(Scope::Recommend));
    let admin = OpenApiRouter::new()
        .routes(routes!(users::export))
        .routes(routes!(users::erase))
        .routes(routes!(policies::promote))
        .routes(routes!(policies::rollback))
        .routes(routes!(policies::register))
        .route_layer(gate.require(Scope::Admin));

    let service = Service::from_ref(&state);
    let routes = OpenApiRouter::with_openapi(Document::openapi())
        .merge(open)
        .merge(read)
        .merge(recommend)
        .merge(admin)
        .with_state(state)
        .merge(ingestion);
    finished(routes, service)
}

/// The surface of a process that serves nobody tips or features: how it is, and `ingestion` where it takes
/// signals in.
pub fn part_router(service: Service, ingestion: Option<OpenApiRouter>) -> Router {
    let routes = OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(service::healthz))
        .routes(routes!(service::readyz))
        .routes(routes!(service::metrics))
        .routes(routes!(service::openapi))
        .with_state(service.clone())
        .merge(ingestion.unwrap_or_default());
    finished(routes, service)
}

/// With its description, an answer to everything else, and what stands around every request.
fn finished(routes: OpenApiRouter, service: Service) -> Router {
    let (router, document) = routes.split_for_parts();
    let text = OpenApiText(document.to_json().unwrap_or_default().into());

    router
        .fallback(async || ApiError::NotFound("there is nothing here; `/openapi.json` lists what is".into()))
        .method_not_allowed_fallback(async || ApiError::Method)
        .layer(Extension(text))
        .layer(CatchPanicLayer::custom(service::panicked))
        .layer(middleware::from_fn_with_state(observe::Observer::new(service), observe::observe))
}
