//! What only the running catalogue and the gate know of the API description.

use utoipa::openapi::{
    Components, OpenApi, RefOr,
    extensions::Extensions,
    schema::{ObjectBuilder, Schema, SchemaType},
    security::{ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityScheme},
};

use crate::catalogue::Catalogue;

/// Adds the ways to send a key, and the JSON Schema of each declared type's `data` as `signal.<type>`.
pub fn describe(api: &mut OpenApi, catalogue: &Catalogue) {
    let components = api.components.get_or_insert_with(Components::new);
    components.add_security_scheme("bearer", SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)));
    components.add_security_scheme(
        "api_key",
        SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::new("X-API-Key"))),
    );
    for declared in catalogue.types() {
        components.schemas.insert(format!("signal.{}", declared.name), as_it_is(declared.json_schema()));
    }
}

/// A schema of OpenAPI 3.1 is any JSON Schema, more than `utoipa` has fields for; its extensions are written
/// out beside the fields and take any name.
fn as_it_is(schema: serde_json::Value) -> RefOr<Schema> {
    let serde_json::Value::Object(members) = schema else { return RefOr::T(Schema::default()) };
    let members: Extensions = members.into_iter().collect();
    let object = ObjectBuilder::new().schema_type(SchemaType::AnyValue).extensions(Some(members)).build();
    RefOr::T(Schema::Object(object))
}
