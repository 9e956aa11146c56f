//! Tokens that no rule is for, and tokens that are none: each with a real signature, refused over both protocols.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use superserve::proto::v1::ListAgentsRequest;
use tonic::Code;

use crate::harness::{
    Database,
    issuer::{SigningKey, key_set, now, sign_by_secret, write_rules},
    server::Server,
};

const ISSUER: &str = "https://issuer.example";
const NEIGHBOUR: &str = "https://neighbour.example";
const SUBJECT: &str = "system:serviceaccount:agents:one";

/// A server that knows two issuers, and what is published of the first.
struct Known {
    server: Server,
    key: SigningKey,
    rsa: SigningKey,
    of_neighbour: SigningKey,
}

fn claims(change: &Value) -> Value {
    let mut claims = json!({
        "iss": ISSUER, "sub": SUBJECT, "aud": ["superserve"], "iat": now(), "nbf": now(), "exp": now() + 300,
    });
    for (name, value) in change.as_object().expect("an object") {
        if value.is_null() {
            claims.as_object_mut().unwrap().remove(name);
        } else {
            claims[name] = value.clone();
        }
    }
    claims
}

impl Known {
    fn start() -> Self {
        let setup = Server::with(Database::Sqlite);
        let (key, rsa) = (SigningKey::p256("k1"), SigningKey::rsa("r1", "issuer"));
        let of_neighbour = SigningKey::p256("n1");
        let issuer = |name: &str, file: &str, keys: &[&SigningKey]| {
            let path = setup.data_dir().join(file);
            std::fs::write(&path, key_set(keys)).unwrap();
            format!(
                "[[issuers]]\nissuer = {name:?}\naudiences = [\"superserve\"]\njwks_file = \"{}\"\n\
                 [[issuers.rules]]\nclaims = {{ sub = {SUBJECT:?} }}\ntenant = \"ten_default\"\n\
                 scopes = [\"agents:read\"]\nagents = \"all\"\n",
                path.display()
            )
        };
        let issuers = [
            issuer(ISSUER, "keys.json", &[&key, &rsa]),
            issuer(NEIGHBOUR, "neighbour.json", &[&of_neighbour]),
        ];
        let path = write_rules(setup.data_dir(), &issuers);
        let server = setup.env("SUPERSERVE_IDENTITIES", &path).env("SUPERSERVE_LOG_LEVEL", "debug").start();
        Self { server, key, rsa, of_neighbour }
    }

    async fn is_known(&self, token: &str) -> bool {
        let rest = self.server.rest().token(token).get("/v1/agents").send().await;
        let mut agents = self.server.grpc().await.token(token).agents;
        let grpc = agents.list_agents(ListAgentsRequest::default()).await;
        if rest.status == 200 && grpc.is_ok() {
            return true;
        }
        assert_eq!(rest.status, 401);
        assert_eq!(rest.refusal(), ("Not authenticated".to_owned(), json!({})));
        assert_eq!(rest.header("www-authenticate"), "Bearer");
        assert_eq!(grpc.unwrap_err().code(), Code::Unauthenticated);
        false
    }

    async fn refuses(&self, what: &str, token: &str) {
        assert!(!self.is_known(token).await, "{what}");
    }
}

#[tokio::test]
async fn what_the_claims_say_has_to_hold() {
    let known = Known::start();
    let sign = |change: Value| known.key.sign(&claims(&change));
    for good in [
        json!({}),
        json!({"aud": "superserve"}),
        json!({"aud": ["other", "superserve"]}),
        json!({"iat": null, "nbf": null}),
        json!({"exp": now() - 20}),
        json!({"iat": now() + 20, "nbf": now() + 20}),
        json!({"exp": 4_102_444_800.5, "more": {"nested": [1, 2]}}),
    ] {
        assert!(known.is_known(&sign(good.clone())).await, "{good}");
    }
    for bad in [
        json!({"aud": "other"}),
        json!({"aud": ["other"]}),
        json!({"aud": []}),
        json!({"aud": null}),
        json!({"aud": "superserve2"}),
        json!({"aud": "super"}),
        json!({"aud": {"superserve": "superserve"}}),
        json!({"iss": "https://issuer.example/"}),
        json!({"iss": "https://issuer"}),
        json!({"iss": "https://stranger.example"}),
        json!({"iss": [ISSUER]}),
        json!({"iss": null}),
        json!({"exp": now() - 40}),
        json!({"exp": 0}),
        json!({"exp": -1}),
        json!({"exp": null}),
        json!({"exp": (now() + 300).to_string()}),
        json!({"exp": true}),
        json!({"nbf": now() + 40}),
        json!({"nbf": (now() + 40).to_string()}),
        json!({"nbf": "0"}),
        json!({"iat": now() + 40}),
        json!({"iat": now().to_string()}),
        json!({"sub": format!("{SUBJECT}-more")}),
        json!({"sub": &SUBJECT[..SUBJECT.len() - 1]}),
        json!({"sub": SUBJECT.to_uppercase()}),
        json!({"sub": format!("{SUBJECT} ")}),
        json!({"sub": [SUBJECT]}),
        json!({"sub": null}),
        json!({"sub": "x".repeat(300)}),
    ] {
        known.refuses(&bad.to_string(), &sign(bad.clone())).await;
    }
}

#[tokio::test]
async fn a_signature_has_to_be_the_issuers() {
    let known = Known::start();
    let good = claims(&json!({}));
    let stranger = SigningKey::p256("k1");
    known.refuses("another key under the same name", &stranger.sign(&good)).await;
    known.refuses("another RSA key", &SigningKey::rsa("r1", "stranger").sign(&good)).await;
    known.refuses("an unknown key", &SigningKey::p256("k2").sign(&good)).await;
    known.refuses("the neighbour's key", &known.of_neighbour.sign(&good)).await;
    let as_neighbour = claims(&json!({"iss": NEIGHBOUR}));
    known.refuses("the neighbour's name", &known.key.sign(&as_neighbour)).await;
    assert!(known.is_known(&known.of_neighbour.sign(&as_neighbour)).await);
    assert!(known.is_known(&known.rsa.sign(&good)).await);

    let token = known.key.sign(&good);
    let [head, body, signature] = token.split('.').collect::<Vec<_>>().try_into().unwrap();
    let other = URL_SAFE_NO_PAD.encode(claims(&json!({"admin": true})).to_string());
    known.refuses("other claims", &format!("{head}.{other}.{signature}")).await;
    known.refuses("no signature", &format!("{head}.{body}.")).await;
    known.refuses("half of a signature", &format!("{head}.{body}.{}", &signature[..43])).await;
    let mut flipped = URL_SAFE_NO_PAD.decode(signature).unwrap();
    flipped[10] ^= 1;
    known.refuses("a flipped bit", &format!("{head}.{body}.{}", URL_SAFE_NO_PAD.encode(&flipped))).await;
    let zero = URL_SAFE_NO_PAD.encode([0; 64]);
    known.refuses("a signature of zeros", &format!("{head}.{body}.{zero}")).await;
}

#[tokio::test]
async fn the_algorithm_is_not_for_the_token_to_choose() {
    let known = Known::start();
    let good = claims(&json!({}));
    let text = good.to_string();
    for none in ["none", "None", "NONE", "nOnE"] {
        let header = URL_SAFE_NO_PAD.encode(json!({"alg": none, "kid": "k1"}).to_string());
        let body = URL_SAFE_NO_PAD.encode(&text);
        known.refuses(none, &format!("{header}.{body}.")).await;
        let signed = known.key.sign_texts("ES256", &json!({"alg": none, "kid": "k1"}).to_string(), &text);
        known.refuses(none, &signed).await;
    }
    // The published key as if it were a secret, in each form in which somebody may have it
    let public = known.rsa.public();
    let (n, e) = (public["n"].as_str().unwrap(), public["e"].as_str().unwrap());
    let modulus = URL_SAFE_NO_PAD.decode(n).unwrap();
    for secret in
        [public.to_string().into_bytes(), n.as_bytes().to_vec(), modulus, e.as_bytes().to_vec(), vec![0]]
    {
        known.refuses("an HMAC by a public key", &sign_by_secret(&secret, "r1", &good)).await;
    }
    let point = URL_SAFE_NO_PAD.decode(known.key.public()["x"].as_str().unwrap()).unwrap();
    known.refuses("an HMAC by a public key", &sign_by_secret(&point, "k1", &good)).await;
    known.refuses("not on the list", &known.rsa.sign_as("PS256", &good)).await;
    known.refuses("not on the list", &known.rsa.sign_as("RS512", &good)).await;
    for alg in ["ES384", "EdDSA", "ES256K", "HS256", "", "es256"] {
        let header = json!({"alg": alg, "kid": "k1"}).to_string();
        known.refuses(alg, &known.key.sign_texts("ES256", &header, &text)).await;
    }
}

#[tokio::test]
async fn a_token_has_one_form() {
    let known = Known::start();
    let text = claims(&json!({})).to_string();
    let sign = |header: &str| known.key.sign_texts("ES256", header, &text);
    let good = r#"{"alg":"ES256","kid":"k1","typ":"at+JWT","x":1}"#;
    assert!(known.is_known(&sign(good)).await);
    for header in [
        r#"{"alg":"ES256"}"#,
        r#"{"kid":"k1"}"#,
        r#"{"alg":"ES256","kid":1}"#,
        r#"{"alg":"ES256","kid":""}"#,
        r#"{"alg":"ES256","alg":"ES256","kid":"k1"}"#,
        r#"{"alg":"none","alg":"ES256","kid":"k1"}"#,
        r#"{"alg":"ES256","kid":"k1","kid":"k1"}"#,
        r#"{"alg":["ES256"],"kid":"k1"}"#,
        r#"{"alg":"ES256","kid":"k1","crit":["exp"]}"#,
        r#"{"alg":"ES256","kid":"k1","crit":["b64"],"b64":false}"#,
        r#"{"alg":"ES256","kid":"k1","zip":"DEF"}"#,
        r#"{"alg":"ES256","kid":"k1","enc":"A256GCM"}"#,
        r#"{"alg":"ES256","kid":"k1","typ":"logout+jwt"}"#,
        r#"{"alg":"ES256","kid":"k1"} "{}"#,
        r#"["ES256"]"#,
        "null",
        "",
        "{",
    ] {
        known.refuses(header, &sign(header)).await;
    }
    // The key that it brings along counts for nothing
    let own = SigningKey::p256("k1");
    let header =
        json!({"alg": "ES256", "kid": "k1", "jwk": own.public(), "jku": "http://127.0.0.1:1/"}).to_string();
    known.refuses("a key of its own", &own.sign_texts("ES256", &header, &text)).await;
    let header = r#"{"alg":"ES256","kid":"k1"}"#;
    let twice = text.replace("\"aud\"", "\"admin\":1,\"admin\":2,\"aud\"");
    for claims in [
        twice.as_str(),
        &text.replace("\"aud\"", "\"sub\":\"other\",\"aud\""),
        &text.replace(r#""sub""#, r#""s\u0075b":"x","sub""#),
        &format!("{text}{text}"),
        "[]",
        "7",
        "",
        "\u{1}",
    ] {
        known.refuses(claims, &known.key.sign_texts("ES256", header, claims)).await;
    }
}

#[tokio::test]
async fn a_token_is_three_parts_in_one_header() {
    let known = Known::start();
    let text = claims(&json!({})).to_string();
    let token = known.key.sign_texts("ES256", r#"{"alg":"ES256","kid":"k1"}"#, &text);
    let long = claims(&json!({"more": "x".repeat(8000)}));
    for (what, token) in [
        ("oversized", known.key.sign(&long)),
        ("two parts", token.rsplit_once('.').unwrap().0.to_owned()),
        ("four parts", format!("{token}.e30")),
        ("padded", format!("{token}=")),
        ("points only", "..".to_owned()),
        ("as it stands", text.replace(|c: char| !c.is_ascii_graphic(), "")),
    ] {
        known.refuses(what, &token).await;
    }
    assert!(known.is_known(&known.key.sign(&claims(&json!({"more": "x".repeat(5000)})))).await);
    let twice = known.server.rest().token(&token).get("/v1/agents");
    let twice = twice.header("authorization", &format!("Bearer {token}")).send().await;
    assert_eq!(twice.status, 401, "two headers are none");
    let told = known.server.log();
    assert!(told.contains("a token of an issuer was refused") && !told.contains(&token[..60]), "{told}");
}
