#!/bin/bash
# The product source document's own check of a platform, test-rabbitmq-multitenant.sh, command by command.
# Other than there: the password is in a netrc file and not in the commands, and the ports can be chosen.
# NETRC names the file (`machine localhost login kryonix_admin password ...`); MANAGEMENT_PORT, METRICS_PORT.
# shellcheck disable=SC2086

MANAGEMENT_PORT=${MANAGEMENT_PORT:-15672}
METRICS_PORT=${METRICS_PORT:-9419}

echo "🧪 Testando RabbitMQ Multi-Tenant..."

ERRORS=0

# Teste 1: Management API
echo "📊 Teste 1: Management API"
if curl -f -s --netrc-file "$NETRC" "http://localhost:$MANAGEMENT_PORT/api/overview" > /dev/null; then
  echo "✅ Management API funcionando"
else
  echo "❌ Management API com problemas"
  ERRORS=$((ERRORS + 1))
fi

# Teste 2: VHosts criados
echo "🏠 Teste 2: VHosts criados"
VHOST_COUNT=$(curl -s --netrc-file "$NETRC" "http://localhost:$MANAGEMENT_PORT/api/vhosts" | jq '. | length')
if [ "$VHOST_COUNT" -ge 4 ]; then
  echo "✅ VHosts criados: $VHOST_COUNT"
else
  echo "❌ VHosts insuficientes: $VHOST_COUNT"
  ERRORS=$((ERRORS + 1))
fi

# Teste 3: Usuários específicos
echo "👤 Teste 3: Usuários específicos"
USER_COUNT=$(curl -s --netrc-file "$NETRC" "http://localhost:$MANAGEMENT_PORT/api/users" | jq '. | length')
if [ "$USER_COUNT" -ge 2 ]; then
  echo "✅ Usuários criados: $USER_COUNT"
else
  echo "❌ Usuários insuficientes: $USER_COUNT"
  ERRORS=$((ERRORS + 1))
fi

# Teste 4: Métricas Prometheus
echo "📈 Teste 4: Métricas Prometheus"
if curl -f -s "http://localhost:$METRICS_PORT/metrics" | grep -q "rabbitmq"; then
  echo "✅ Métricas Prometheus funcionando"
else
  echo "❌ Métricas Prometheus com problemas"
  ERRORS=$((ERRORS + 1))
fi

# Resultado final
echo "======================================="
if [ $ERRORS -eq 0 ]; then
  echo "🎉 Todos os testes passaram!"
  echo "✅ RabbitMQ Multi-Tenant funcionando perfeitamente"
else
  echo "❌ $ERRORS teste(s) falharam"
  echo "🔧 Verifique os logs para mais detalhes"
fi

exit $ERRORS
