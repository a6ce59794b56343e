//! The description of the API as OpenAPI 3.1, made of the table of endpoints and the types of their handlers.

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use crate::failure::ErrorBody;
use crate::table::{Endpoint, Needs};

/// The whole description.
pub(crate) fn document(endpoints: &[Endpoint]) -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
    });
    let mut generator = settings.into_generator();
    let error = json!(generator.subschema_for::<ErrorBody>());
    let mut paths: Map<String, Value> = Map::new();
    for endpoint in endpoints {
        let Endpoint { id, summary, method, path, needs, query, request, answer, media_type, handler: _ } = endpoint;
        let variables = path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
        let in_path =
            variables.map(|name| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}}));
        let in_query = query.iter().map(|name| json!({"name": name, "in": "query", "schema": {"type": "string"}}));
        let parameters: Vec<Value> = in_path.chain(in_query).collect();
        let success = match answer {
            Some(answer) => json!({"200": {"description": "done",
                "content": {*media_type: {"schema": answer(&mut generator)}}}}),
            None if *media_type != "application/json" => {
                json!({"200": {"description": "done", "content": {*media_type: {"schema": {"type": "string"}}}}})
            }
            None => json!({"204": {"description": "done"}}),
        };
        let mut responses = success;
        responses["default"] = json!({"description": "not done", "content": {"application/json": {"schema": error}}});
        let mut operation = json!({"operationId": id, "summary": summary, "responses": responses});
        if !parameters.is_empty() {
            operation["parameters"] = parameters.into();
        }
        if let Some(request) = request {
            operation["requestBody"] = json!({"required": true,
                "content": {"application/json": {"schema": request(&mut generator)}}});
        }
        if *needs == Needs::Nobody {
            operation["security"] = json!([]);
        }
        let place = paths.entry(*path).or_insert_with(|| json!({}));
        place[method.as_str().to_ascii_lowercase()] = operation;
    }
    json!({
        "openapi": "3.1.0",
        "info": {"title": "idm management API", "version": "1"},
        "paths": paths,
        "components": {
            "schemas": generator.take_definitions(true),
            "securitySchemes": {"session": {"type": "apiKey", "in": "cookie", "name": "idm_manager"}},
        },
        "security": [{"session": []}],
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::endpoints;

    #[test]
    fn every_endpoint_is_described_and_every_reference_leads_somewhere() {
        let endpoints = endpoints();
        let document = document(&endpoints);
        for endpoint in endpoints.iter() {
            let operation = &document["paths"][endpoint.path][endpoint.method.as_str().to_ascii_lowercase()];
            assert_eq!(operation["operationId"], endpoint.id);
        }
        let text = document.to_string();
        let mut references = 0;
        for reference in text.split("\"#/components/schemas/").skip(1) {
            let name = reference.split('"').next().unwrap_or_default();
            assert!(document["components"]["schemas"][name].is_object(), "{name}");
            references += 1;
        }
        assert!(references > 10, "{references}");
    }

    #[test]
    fn no_two_types_share_a_name() {
        let document = document(&endpoints());
        let names: Vec<_> =
            document["components"]["schemas"].as_object().into_iter().flat_map(|all| all.keys()).collect();
        assert!(names.iter().all(|name| !name.ends_with('2')), "{names:?}");
    }
}
