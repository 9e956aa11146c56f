-- One agent's ten names and values.
\set agent random(1, :agents)
SELECT key, value FROM bench WHERE agent_id = 'agt_' || lpad((:agent)::text, 22, '0');
