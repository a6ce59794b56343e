/// Why the signatures or digests of a message cannot be used. Shows names of components, and no value of one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// A field is no structured field of its kind.
    #[error("`{0}` is not a structured field as its RFC defines it")]
    Malformed(&'static str),
    /// A name is in a dictionary twice.
    #[error("`{0}` has the same name twice")]
    Repeated(&'static str),
    /// There are too many signatures or components.
    #[error("there are more than {most} {what}")]
    TooMany {
        /// The limit.
        most: usize,
        /// The things that were counted.
        what: &'static str,
    },
    /// Only one of the two fields names a signature.
    #[error("the signature `{0}` is not in both `Signature-Input` and `Signature`")]
    Unpaired(String),
    /// A parameter has another type than its RFC gives it.
    #[error("the parameter `{0}` has another type than RFC 9421 gives it")]
    WrongParameter(&'static str),
    /// A component is covered twice.
    #[error("the component {0} is covered twice")]
    CoveredTwice(String),
    /// A component that does not exist in requests, or has parameters that are not known for it.
    #[error("the component {0} cannot be part of a request's signature here")]
    Unsupported(String),
    /// The request has no such component.
    #[error("the component {0} is covered, and the request has none (the gateway may have removed it)")]
    Absent(String),
    /// The component has more than one value where one is wanted.
    #[error("the component {0} has more than one value")]
    Ambiguous(String),
    /// The value of a component has bytes that no base may contain.
    #[error("the component {0} has a value outside ASCII: cover it with the parameter `bs`")]
    NotAscii(String),
    /// None of the digests is of a known algorithm.
    #[error("`Content-Digest` has neither `sha-256` nor `sha-512`")]
    NoKnownDigest,
}
