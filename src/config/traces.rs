//! The settings of traces.
//!
//! What is not set by a name of ours is taken from the variable by which OpenTelemetry knows it, where it has one.
//! Variables of OpenTelemetry that are not named here are not read.

use clap::Args;
use http::Uri;
use percent_encoding::percent_decode_str;
use tonic::metadata::{Ascii, MetadataKey, MetadataMap, MetadataValue};

use super::{Environment, SettingError};
use crate::telemetry::TracesConfig;

const ENDPOINT: &str = "--otlp-endpoint";
const RATIO: &str = "--trace-sample-ratio";
const HEADERS: &str = "SUPERSERVE_OTLP_HEADERS";

/// The names that OpenTelemetry has for them.
const OTEL_DISABLED: &str = "OTEL_SDK_DISABLED";
const OTEL_ENDPOINTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];
const OTEL_PROTOCOLS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"];
const OTEL_HEADERS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS"];
const OTEL_SERVICE_NAME: &str = "OTEL_SERVICE_NAME";
const OTEL_RATIO: &str = "OTEL_TRACES_SAMPLER_ARG";

/// The part of all calls that is traced.
const DEFAULT_RATIO: f64 = 0.01;

/// As which service we are known to the collector.
const SERVICE_NAME: &str = "superserve";

/// Which calls are traced, and who is told.
#[derive(Args, Debug)]
pub(super) struct TraceSettings {
    /// Collector of traces that speaks OTLP by gRPC, `http://host:4317` or `https://…` [default: `OTEL_EXPORTER_OTLP_ENDPOINT`, else none: no traces]
    #[arg(long, env = "SUPERSERVE_OTLP_ENDPOINT", value_name = "URL")]
    otlp_endpoint: Option<Uri>,
    /// Part of all calls that is traced, 0 to 1 [default: `OTEL_TRACES_SAMPLER_ARG`, else 0.01]
    #[arg(long, env = "SUPERSERVE_TRACE_SAMPLE_RATIO", value_name = "RATIO", value_parser = ratio)]
    trace_sample_ratio: Option<f64>,
    /// Most calls a second that are traced beside those because their callers trace them (`traceparent`); 0 for none
    #[arg(long, env = "SUPERSERVE_TRACE_CALLERS", value_name = "N", default_value_t = 10)]
    trace_callers: u32,
}

// === impl TraceSettings ===

impl TraceSettings {
    /// Checks them; `None` where nothing is traced.
    pub(super) fn check(&self, environment: &Environment) -> Result<Option<TracesConfig>, SettingError> {
        let endpoint = match &self.otlp_endpoint {
            Some(endpoint) => (ENDPOINT, endpoint.clone()),
            None => match of_opentelemetry(environment)? {
                Some(endpoint) => endpoint,
                None => return Ok(None),
            },
        };
        let service_name = environment.get(OTEL_SERVICE_NAME)?.unwrap_or(SERVICE_NAME).to_owned();
        Ok(Some(TracesConfig {
            endpoint: checked(endpoint)?,
            headers: headers(environment)?,
            service_name,
            ratio: self.ratio(environment)?,
            callers: self.trace_callers,
        }))
    }

    fn ratio(&self, environment: &Environment) -> Result<f64, SettingError> {
        if let Some(ratio) = self.trace_sample_ratio {
            return Ok(ratio);
        }
        let Some(text) = environment.get(OTEL_RATIO)? else { return Ok(DEFAULT_RATIO) };
        ratio(text).map_err(|problem| SettingError::new(OTEL_RATIO, format!("{problem}, or {RATIO}")))
    }
}

/// The collector that OpenTelemetry's variables name.
fn of_opentelemetry(environment: &Environment) -> Result<Option<(&'static str, Uri)>, SettingError> {
    if environment.get(OTEL_DISABLED)?.is_some_and(|value| value.eq_ignore_ascii_case("true")) {
        return Ok(None);
    }
    let Some((name, text)) = first(environment, OTEL_ENDPOINTS)? else { return Ok(None) };
    match first(environment, OTEL_PROTOCOLS)? {
        Some((protocol, other)) if other != "grpc" => Err(SettingError::new(
            protocol,
            format!(
                "traces are sent by \"grpc\" alone: set it, or {ENDPOINT} to a collector that speaks that"
            ),
        )),
        _ => {
            let endpoint = text.parse().map_err(|error| SettingError::new(name, format!("{error}")))?;
            Ok(Some((name, endpoint)))
        }
    }
}

fn first(
    environment: &Environment,
    names: [&'static str; 2],
) -> Result<Option<(&'static str, String)>, SettingError> {
    for name in names {
        if let Some(value) = environment.get(name)? {
            return Ok(Some((name, value.to_owned())));
        }
    }
    Ok(None)
}

fn checked((setting, endpoint): (&'static str, Uri)) -> Result<Uri, SettingError> {
    let is_one = matches!(endpoint.scheme_str(), Some("http" | "https"))
        && endpoint.host().is_some_and(|host| !host.is_empty())
        && endpoint.authority().is_some_and(|authority| !authority.as_str().contains('@'))
        && matches!(endpoint.path(), "" | "/")
        && endpoint.query().is_none();
    let refused = || SettingError::new(setting, "must be like http://collector.example:4317, without a path");
    if is_one { Ok(endpoint) } else { Err(refused()) }
}

/// What is sent along, such as a collector's key: `name=value,…`, each value percent-encoded. No error shows one.
fn headers(environment: &Environment) -> Result<MetadataMap, SettingError> {
    let mut headers = MetadataMap::new();
    for setting in [HEADERS, OTEL_HEADERS[0], OTEL_HEADERS[1]] {
        let Some(text) = environment.get_or_file(setting)? else { continue };
        for (number, pair) in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()).enumerate() {
            let (name, value) = header(pair).ok_or_else(|| {
                SettingError::new(setting, format!("header {} is not like name=value", number + 1))
            })?;
            headers.insert(name, value);
        }
        return Ok(headers);
    }
    Ok(headers)
}

fn header(pair: &str) -> Option<(MetadataKey<Ascii>, MetadataValue<Ascii>)> {
    let (name, value) = pair.split_once('=')?;
    let name = MetadataKey::from_bytes(name.trim().to_lowercase().as_bytes()).ok()?;
    let mut value = MetadataValue::try_from(&*percent_decode_str(value.trim()).decode_utf8().ok()?).ok()?;
    value.set_sensitive(true);
    Some((name, value))
}

fn ratio(text: &str) -> Result<f64, &'static str> {
    let ratio = text.parse().ok().filter(|ratio| (0.0..=1.0).contains(ratio));
    ratio.ok_or("give a number from 0 to 1")
}

#[cfg(test)]
mod tests {
    use clap::{Command, FromArgMatches as _};

    use super::*;

    fn check<const N: usize>(
        arguments: &[&str],
        variables: [(&str, &str); N],
    ) -> Result<Option<TracesConfig>, String> {
        let command = TraceSettings::augment_args(Command::new("serve"));
        let arguments = std::iter::once("serve").chain(arguments.iter().copied());
        let matches = command.try_get_matches_from(arguments).map_err(|error| error.to_string())?;
        let settings = TraceSettings::from_arg_matches(&matches).map_err(|error| error.to_string())?;
        settings.check(&Environment::from(variables)).map_err(|error| error.to_string())
    }

    #[test]
    fn nothing_is_traced_unless_a_collector_is_named() {
        assert!(check(&[], [("OTEL_SERVICE_NAME", "secrets")]).unwrap().is_none());
        let config = check(&["--otlp-endpoint=https://collector:4317"], []).unwrap().unwrap();
        assert_eq!((config.endpoint.to_string().as_str(), config.callers), ("https://collector:4317/", 10));
        assert_eq!((config.ratio.to_string().as_str(), config.service_name.as_str()), ("0.01", "superserve"));
    }

    #[test]
    fn opentelemetrys_names_count_where_ours_are_not_set() {
        let theirs = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://theirs:4317"),
            ("OTEL_TRACES_SAMPLER_ARG", "0.5"),
            ("OTEL_SERVICE_NAME", "secrets"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "Authorization=Basic%20a%3D, x-team = b"),
        ];
        let config = check(&[], theirs).unwrap().unwrap();
        assert_eq!((config.endpoint.host(), config.service_name.as_str()), (Some("theirs"), "secrets"));
        assert!((config.ratio - 0.5).abs() < f64::EPSILON);
        let header = |name| config.headers.get(name).unwrap().to_str().unwrap();
        assert_eq!((header("authorization"), header("x-team")), ("Basic a=", "b"));
        let ours = ["--otlp-endpoint=http://ours:4317", "--trace-sample-ratio=0"];
        let config = check(&ours, theirs).unwrap().unwrap();
        assert_eq!((config.endpoint.host(), config.ratio.to_string().as_str()), (Some("ours"), "0"));
        let disabled = [theirs[0], ("OTEL_SDK_DISABLED", "TRUE")];
        assert!(check(&[], disabled).unwrap().is_none());
        let both = [theirs[0], ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://traces:4317")];
        assert_eq!(check(&[], both).unwrap().unwrap().endpoint.host(), Some("traces"));
    }

    #[test]
    fn what_cannot_be_is_refused_by_its_name() {
        for url in ["collector:4317", "ftp://a", "http://a/v1/traces", "http://sentinel@a", "http://a?b"] {
            let refused = check(&[&format!("--otlp-endpoint={url}")], []).unwrap_err();
            assert!(refused.contains("--otlp-endpoint") && !refused.contains("sentinel"), "{refused}");
        }
        for ratio in ["-0.1", "1.1", "NaN", "all"] {
            assert!(check(&[&format!("--trace-sample-ratio={ratio}")], []).is_err(), "{ratio}");
        }
        let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://a:4317");
        for (variable, value) in [
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
            ("OTEL_TRACES_SAMPLER_ARG", "2"),
            ("SUPERSERVE_OTLP_HEADERS", "authorization sentinel"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "a b=sentinel"),
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://"),
        ] {
            let refused = check(&[], [endpoint, (variable, value)]).unwrap_err();
            assert!(refused.contains(variable) && !refused.contains("sentinel"), "{refused}");
        }
    }
}
