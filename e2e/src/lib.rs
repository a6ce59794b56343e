//! Words for end-to-end tests: a namespace of one's own, kubectl, Keycloak, Elasticsearch, traffic.
