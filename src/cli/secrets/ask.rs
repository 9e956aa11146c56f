//! Asks a person for values, hidden.

use crate::{
    cli::{
        agents,
        client::{Client, NamedAgent},
        context::Context,
        failure::Failure,
        faults,
    },
    domain::{Fault, FaultCode, SecretName},
    proto::v1::RequiredSecret,
};

use super::sources::{Assignment, check};

/// A prompt takes one line. What begins like this goes on below, and the rest would be read as answers.
const PEM_BEGIN: &str = "-----BEGIN ";

/// Fails where nobody can be asked, and says what to give instead.
///
/// # Errors
/// Without a terminal.
pub(super) fn needs_terminal(context: &Context, keys: &[SecretName]) -> Result<(), Failure> {
    if context.input.is_terminal {
        return Ok(());
    }
    let key = keys.first().map_or("KEY", SecretName::as_str);
    Err(Failure::local(format!("There is no terminal to ask for {} on.", what(keys)))
        .hint(format!("Give {key}=- with the value on stdin, {key}=@FILE, or --env-file FILE.")))
}

fn what(keys: &[SecretName]) -> String {
    let names: Vec<_> = keys.iter().map(SecretName::as_str).collect();
    if names.is_empty() { "values".to_owned() } else { names.join(", ") }
}

/// Asks for the value of each of these keys. An empty answer is asked again.
///
/// # Errors
/// When the person gives up.
pub(super) async fn each(context: &mut Context, keys: Vec<SecretName>) -> Result<Vec<Assignment>, Failure> {
    let mut assignments = Vec::with_capacity(keys.len());
    for key in keys {
        loop {
            match one(context, &key).await? {
                Some(assignment) => break assignments.push(assignment),
                None => context.output.talk(format!("{key}: {}", FaultCode::EmptyValue.advice())),
            }
        }
    }
    Ok(assignments)
}

/// Asks for each missing required secret, which may be passed over, and then for more.
///
/// # Errors
/// When the agent cannot be read, or the person gives up.
pub(super) async fn missing_and_more(
    context: &mut Context,
    client: &Client,
    agent: &NamedAgent,
) -> Result<Vec<Assignment>, Failure> {
    let found = agents::fetch(client, agent).await?;
    let mut assignments = Vec::new();
    if !found.missing_secrets.is_empty() {
        context.output.talk(format!("Required by agent '{}' (Enter alone passes one over):", agent.shown));
    }
    for name in &found.missing_secrets {
        // A name that could not be set is the server's to explain, not the person's to answer
        let Ok(Assignment { key, .. }) = check(name, "x") else { continue };
        if let Some(about) = description(&found.required_secrets, name) {
            context.output.talk(format!("{name}: {about}"));
        }
        assignments.extend(one(context, &key).await?);
    }
    while let Some(key) = next_name(context, &assignments).await? {
        assignments.extend(one(context, &key).await?);
    }
    Ok(assignments)
}

fn description<'a>(required: &'a [RequiredSecret], name: &str) -> Option<&'a str> {
    let secret = required.iter().find(|secret| secret.name == name)?;
    Some(secret.description.as_str()).filter(|text| !text.is_empty())
}

/// The name of another secret; none ends the questions.
async fn next_name(context: &mut Context, given: &[Assignment]) -> Result<Option<SecretName>, Failure> {
    let Context { input, output, .. } = context;
    loop {
        let answer = input.ask(output, "Name of another secret (Enter alone to end): ").await?;
        let name = answer.as_deref().map(str::trim).unwrap_or_default();
        if name.is_empty() {
            return Ok(None);
        }
        if given.iter().any(|assignment| assignment.key.as_str() == name) {
            output.talk(format!("{name}: is given twice"));
            continue;
        }
        // Any value will do to check the name; and it is not repeated, as it may be a value typed too early
        match check(name, "x") {
            Ok(assignment) => return Ok(Some(assignment.key)),
            Err(fault) => output.talk(faults::describe_local(&Fault { key: String::new(), ..fault })),
        }
    }
}

/// One value; `None` for an empty answer. What is wrong is told and asked again.
async fn one(context: &mut Context, key: &SecretName) -> Result<Option<Assignment>, Failure> {
    loop {
        let value = context.input.ask_hidden(format!("{key}: ")).await?;
        if value.is_empty() {
            return Ok(None);
        }
        if value.starts_with(PEM_BEGIN) && !value.contains("-----END ") {
            return Err(Failure::local(format!("{key}: a prompt takes one line, and this value has more."))
                .hint(format!("Give it as a file: {key}=@FILE. Nothing was sent.")));
        }
        match check(key.as_str(), &value) {
            Ok(assignment) => return Ok(Some(assignment)),
            Err(fault) => context.output.talk(faults::describe_local(&fault)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{environment::Environment, input::Input, testing::Captured};

    fn context(stdin: &'static [u8], captured: &Captured) -> Context {
        Context {
            environment: Environment::from([]),
            directory: None,
            input: Input::new(stdin, true),
            output: captured.output(),
        }
    }

    #[tokio::test]
    async fn a_bad_name_is_asked_again_and_not_repeated() {
        let captured = Captured::default();
        let mut context = context(b"sk-sentinel\nPATH\nA\n B \n\n", &captured);
        let given = [check("A", "x").unwrap()];
        let name = next_name(&mut context, &given).await.unwrap();
        assert_eq!(name.unwrap().as_str(), "B");
        assert!(next_name(&mut context, &given).await.unwrap().is_none());
        assert!(next_name(&mut context, &given).await.unwrap().is_none(), "the end of input ends it too");
        let said = captured.stderr();
        assert!(said.contains("[invalid_key]") && said.contains("[reserved_key]") && said.contains("twice"));
        assert!(!said.contains("sentinel"), "{said}");
    }

    #[test]
    fn a_description_is_shown_where_there_is_one() {
        let secret = |name: &str, description: &str| RequiredSecret {
            name: name.to_owned(),
            description: description.to_owned(),
            ..Default::default()
        };
        let required = [secret("A", "from the console"), secret("B", "")];
        assert_eq!(description(&required, "A"), Some("from the console"));
        assert_eq!(description(&required, "B"), None);
        assert_eq!(description(&required, "C"), None);
    }
}
